import { hex } from '../../src/errors.ts';
import { alertLine, code, facts, h } from '../dom.ts';
import type { Inspection, TableEntry } from '../model/inspection.ts';
import type { Partition } from '../model/partitions.ts';
import { countText, sizeText } from '../model/sizes.ts';
import { Superseded } from '../worker/client.ts';
import { messageOf, type PlaceInImage, type Session } from './session.ts';

/** A pointer that goes over cells does not ask for each of them. */
const WAIT_MILLISECONDS = 40;

/** Tells what is known of one cell of the map. */
export class Inspector {
  readonly #panel: HTMLElement;
  readonly #spoken: HTMLElement;
  #session: Session | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #turn = 0;
  #partitions: readonly Partition[] = [];

  /** @param spoken read out when a cell is chosen */
  constructor(panel: HTMLElement, spoken: HTMLElement) {
    this.#panel = panel;
    this.#spoken = spoken;
  }

  open(session: Session): void {
    this.#session = session;
    this.#panel.replaceChildren();
    this.#spoken.textContent = '';
    this.#partitions = [];
    // Where there are none, or they cannot be read, cells are told without them.
    session.partitions.then(
      ({ partitions }) => {
        if (this.#session === session) this.#partitions = partitions;
      },
      () => undefined,
    );
  }

  /** @param kind what the map shows there */
  show(place: PlaceInImage, length: number, kind: string, speaks: boolean): void {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    const wait = speaks ? 0 : WAIT_MILLISECONDS;
    this.#timer = setTimeout(() => this.#ask(turn, place, length, kind, speaks), wait);
  }

  async #ask(
    turn: number,
    place: PlaceInImage,
    length: number,
    kind: string,
    speaks: boolean,
  ): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    try {
      const isDisk = place.in === 'disk';
      const found = isDisk
        ? await session.client.ask('inspect', { offset: place.offset })
        : undefined;
      if (turn !== this.#turn) return;
      const content = found
        ? diskDetails(found, kind, length, this.#partitionAt(place.offset))
        : fileDetails(place, kind, length);
      const button = bytesButton(session, place);
      this.#panel.replaceChildren(...content.slice(0, 2), button, ...content.slice(2));
      if (speaks) this.#spoken.textContent = spokenText(place, kind, found);
    } catch (error) {
      if (error instanceof Superseded || turn !== this.#turn) return;
      this.#panel.replaceChildren(alertLine(messageOf(error)));
    }
  }

  #partitionAt(offset: number): string | undefined {
    const found = this.#partitions.findLast(
      ({ start, length, isContainer }) =>
        !isContainer && offset >= start && offset < start + length,
    );
    return found && `${found.number} ${found.name || found.type}`;
  }
}

function bytesButton(session: Session, place: PlaceInImage): HTMLElement {
  const show = () => session.goTo(place);
  return h('p', {}, h('button', { type: 'button', onclick: show }, 'Show the bytes'));
}

function spokenText(place: PlaceInImage, kind: string, found: Inspection | undefined): string {
  const host = found?.host === undefined ? '' : `, host ${hex(found.host)}`;
  return `${place.in === 'disk' ? 'Guest' : 'Host'} ${hex(place.offset)}: ${kind}${host}`;
}

function heading(place: string, offset: number): HTMLElement {
  return h('h3', {}, `${place} `, code(hex(offset)), h('small', {}, `byte ${countText(offset)}`));
}

function fileDetails(place: PlaceInImage, kind: string, length: number): HTMLElement[] {
  return [
    heading('Host', place.offset),
    facts([
      ['Holds', kind],
      ['Cell', sizeText(length)],
    ]),
  ];
}

function diskDetails(
  found: Inspection,
  kind: string,
  length: number,
  partition: string | undefined,
): HTMLElement[] {
  const { guest, clusterSize, source, host, l1, l2, subclusters } = found;
  const several =
    length > clusterSize ? `${sizeText(length)}, this is its first cluster` : undefined;
  return [
    heading('Guest', guest),
    facts([
      ['On the map', kind],
      ['Cell', several],
      ['Here', source],
      ['Partition', partition],
      ['Host', host === undefined ? undefined : code(hex(host))],
    ]),
    ...(l2 ? entryDetails('L2 entry', l2) : []),
    ...(subclusters ? [subclusterBar(subclusters)] : []),
    ...(l1 ? entryDetails('L1 entry', l1).slice(0, 2) : []),
  ];
}

function entryDetails(name: string, entry: TableEntry): HTMLElement[] {
  const { index, at, words, kind, invalid, bits } = entry;
  return [
    h('h4', {}, `${name} ${index} `, h('small', {}, 'at ', code(hex(at)))),
    h(
      'p',
      { class: 'word' },
      code(words.join(' ')),
      h('span', {}, invalid ? `invalid: ${invalid}` : kind),
    ),
    h(
      'ul',
      { class: 'bits' },
      ...bits.map((row) =>
        h(
          'li',
          {},
          h('span', { class: 'range' }, row.bits),
          h('span', {}, row.name),
          h('span', {}, code(row.value), ' ', h('span', { class: 'meaning' }, row.meaning)),
        ),
      ),
    ),
  ];
}

function subclusterBar(letters: string): HTMLElement {
  const legend = 'Subclusters, first to last. D: data, 0: zeros, ·: not here';
  return h('p', { class: 'subclusters', title: legend }, code(letters));
}
