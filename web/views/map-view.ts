import { printable } from '../../src/errors.ts';
import { CELL_KINDS, type CellKind } from '../../src/operations/disk-picture.ts';
import { KIND_LABELS } from '../../src/operations/picture-svg.ts';
import { byId, h } from '../dom.ts';
import { FILE_KINDS } from '../model/file-picture.ts';
import type { Grid } from '../model/grid.ts';
import { placeOf } from '../model/hilbert-place.ts';
import { shareText, sizeText } from '../model/sizes.ts';
import { Superseded } from '../worker/client.ts';
import type { Damage } from '../worker/messages.ts';
import { Inspector } from './inspector.ts';
import { DISK_COLOURS, FILE_COLOURS, FILE_LABELS } from './kinds.ts';
import { MapCanvas } from './map-canvas.ts';
import { partitionBar } from './partitions.ts';
import { messageOf, type PlaceInImage, type Session } from './session.ts';

/** Parts of the page that are of no use without a picture. */
const PARTS = ['map-figure', 'map-zoom', 'map-keys', 'map-side'];

/** What the image stores itself first; what is shared is a part of that. */
const LEGEND_ORDER: readonly CellKind[] = [
  'damaged',
  'data',
  'compressed',
  'shared',
  'backing',
  'zero',
  'unallocated',
];

/** A picture ready to be shown: of the disk, or of the file. */
interface Picture {
  readonly grid: Grid;
  readonly cellBytes: number;
  readonly labels: readonly string[];
  readonly colours: readonly string[];
  readonly legend: readonly { label: string; colour: string; bytes: number; inside?: boolean }[];
  readonly damage?: Damage | undefined;
}

/** The map with its legend and what is known of the cell under the pointer. */
export class MapView {
  readonly #canvas: MapCanvas;
  readonly #inspector: Inspector;
  #session: Session | undefined;
  #of: PlaceInImage['in'] = 'disk';
  #pictures = new Map<PlaceInImage['in'], Promise<Picture>>();
  #shown: Picture | undefined;
  #cursor = 0;

  constructor() {
    this.#inspector = new Inspector(byId('inspector'), byId('spoken'));
    this.#canvas = new MapCanvas(byId<HTMLCanvasElement>('map'), {
      onPoint: (index) => this.#describe(index ?? this.#cursor, index === undefined),
      onSelect: (index) => {
        this.#cursor = index;
        this.#describe(index, true);
      },
      onEnter: (index) => this.#session?.goTo({ in: this.#of, offset: index * this.#cellBytes }),
    });
    byId('zoom-in').addEventListener('click', () => this.#canvas.zoomIn());
    byId('zoom-out').addEventListener('click', () => this.#canvas.zoomOut());
    byId('zoom-fit').addEventListener('click', () => this.#canvas.fit());
    for (const of of ['disk', 'file'] as const)
      byId(`map-of-${of}`).addEventListener('change', () => this.#show(of));
  }

  /** Shows another image. */
  open(session: Session): Promise<void> {
    this.#session = session;
    this.#pictures = new Map();
    byId<HTMLInputElement>('map-of-file').disabled = session.opened.format === 'raw';
    byId<HTMLInputElement>('map-of-disk').checked = true;
    this.#inspector.open(session);
    this.#clear();
    showParts(session);
    return this.#show('disk');
  }

  /** Chooses the cell at a place. */
  async goTo({ in: of, offset }: PlaceInImage): Promise<void> {
    byId<HTMLInputElement>(`map-of-${of}`).checked = true;
    await this.#show(of);
    this.#canvas.select(Math.floor(offset / this.#cellBytes), true);
  }

  /** Nothing of another picture stays. */
  #clear(): void {
    this.#shown = undefined;
    byId('map-error').hidden = true;
    for (const id of PARTS) byId(id).hidden = true;
    byId('map-caption').textContent = '';
    byId('legend').replaceChildren();
  }

  get #cellBytes(): number {
    return this.#shown?.cellBytes ?? 1;
  }

  async #show(of: PlaceInImage['in']): Promise<void> {
    const session = this.#session;
    if (session === undefined || (this.#of === of && this.#pictures.has(of) && this.#shown)) return;
    this.#of = of;
    const figure = byId('map-figure');
    figure.setAttribute('aria-busy', 'true');
    try {
      let picture = this.#pictures.get(of);
      if (picture === undefined) {
        picture = of === 'disk' ? diskPictureOf(session) : filePictureOf(session);
        this.#pictures.set(of, picture);
      }
      const found = await picture;
      if (this.#session !== session || this.#of !== of) return;
      this.#render(found, session);
      this.#say(found.damage);
    } catch (failure) {
      if (failure instanceof Superseded) return;
      this.#clear();
      this.#say({ message: messageOf(failure) });
    }
    figure.removeAttribute('aria-busy');
  }

  /** What is wrong, and the way there, beside what can be shown all the same. */
  #say(damage: Damage | undefined): void {
    const line = byId('map-error');
    line.hidden = damage === undefined;
    if (damage === undefined) return;
    const { message, guest } = damage;
    const show = () => guest !== undefined && this.goTo({ in: 'disk', offset: guest });
    const button = h('button', { type: 'button', class: 'link', onclick: show }, 'Show it');
    line.replaceChildren(printable(message), ...(guest === undefined ? [] : [' ', button]));
  }

  #render(picture: Picture, session: Session): void {
    this.#shown = picture;
    this.#cursor = 0;
    for (const id of PARTS) byId(id).hidden = false;
    this.#canvas.show(picture.grid, picture.colours);
    const { name, virtualSize, fileSize } = session.opened;
    const whole = this.#of === 'disk' ? virtualSize : fileSize;
    const what = this.#of === 'disk' ? 'the disk' : 'the image file';
    byId('map-caption').textContent = `Each cell is ${sizeText(picture.cellBytes)} of ${what}`;
    byId('map').setAttribute('aria-label', `Map of ${what} ${name}, ${sizeText(whole)}`);
    byId('legend').replaceChildren(
      ...picture.legend.map(({ label, colour, bytes, inside }) => {
        const swatch = h('span', { class: 'swatch' });
        swatch.style.background = colour;
        return h(
          'li',
          inside ? { class: 'inside' } : {},
          swatch,
          h('span', { class: 'name' }, label),
          h('span', { class: 'size' }, sizeText(bytes)),
          h('span', { class: 'share' }, shareText(bytes, whole)),
        );
      }),
    );
    this.#describe(0, false);
  }

  /** Says what a cell is; aloud if it was chosen. */
  #describe(index: number, speaks: boolean): void {
    const picture = this.#shown;
    if (picture === undefined) return;
    const { x, y } = placeOf(picture.grid.side, index);
    const kind = picture.labels[picture.grid.kinds[y * picture.grid.side + x] ?? 0] ?? '';
    const place = { in: this.#of, offset: index * picture.cellBytes };
    this.#inspector.show(place, picture.cellBytes, kind, speaks);
  }
}

/** The partitions, below the map. */
async function showParts(session: Session): Promise<void> {
  const bar = byId('parts');
  bar.hidden = true;
  const parts = await partitionBar(session).catch(() => []);
  if (session.client.signal.aborted) return;
  bar.replaceChildren(...parts);
  bar.hidden = parts.length === 0;
}

async function diskPictureOf({ client, opened }: Session): Promise<Picture> {
  const { grid, cellBytes, bytes, sharedBytes, damage } = await client.ask('diskPicture');
  const below = opened.chain.filter(({ role }) => role === 'backing file');
  const lacking = below.filter(({ refusal }) => refusal !== undefined).length;
  const missing =
    lacking === below.length ? 'backing file (not given)' : 'backing files (not all given)';
  const labels = CELL_KINDS.map((kind) =>
    kind === 'backing' && lacking > 0 ? missing : KIND_LABELS[kind],
  );
  const colours = CELL_KINDS.map((kind) => DISK_COLOURS[kind]);
  const legend = LEGEND_ORDER.map((kind) => ({
    label: labels[CELL_KINDS.indexOf(kind)]!,
    colour: DISK_COLOURS[kind],
    bytes: kind === 'shared' ? sharedBytes : bytes[kind],
    inside: kind === 'shared',
  }));
  return { grid, cellBytes, labels, colours, legend: legend.filter(isThere), damage };
}

async function filePictureOf({ client }: Session): Promise<Picture> {
  const { grid, cellBytes, bytes } = await client.ask('filePicture');
  const labels = FILE_KINDS.map((kind) => FILE_LABELS[kind]);
  const colours = FILE_KINDS.map((kind) => FILE_COLOURS[kind]);
  const legend = [...FILE_KINDS.slice(1), FILE_KINDS[0]].map((kind) => ({
    label: FILE_LABELS[kind],
    colour: FILE_COLOURS[kind],
    bytes: bytes[kind],
  }));
  return { grid, cellBytes, labels, colours, legend: legend.filter(isThere) };
}

function isThere({ bytes }: { bytes: number }): boolean {
  return bytes > 0;
}
