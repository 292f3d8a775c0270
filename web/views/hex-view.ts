import { alertLine, byId, h } from '../dom.ts';
import { parseOffset } from '../model/sizes.ts';
import { Superseded } from '../worker/client.ts';
import { messageOf, type PlaceInImage, type Session } from './session.ts';

const ROWS = 32;
/** Below this width of the page a row has half the bytes. */
const WIDE = '(min-width: 640px)';

/** The bytes of a disk, or of the image file, a page at a time. */
export class HexView {
  #session: Session | undefined;
  #place: PlaceInImage = { in: 'disk', offset: 0 };
  #turn = 0;
  readonly #wide = matchMedia(WIDE);

  constructor() {
    byId('hex-go').addEventListener('submit', (event) => {
      event.preventDefault();
      const offset = parseOffset(byId<HTMLInputElement>('hex-offset').value);
      if (offset === undefined) this.#say('That is no offset: write 4096, 0x1000, 4K or 1.5 GiB');
      else this.goTo({ in: this.#place.in, offset });
    });
    byId('hex-of').addEventListener('change', () => {
      const from = byId<HTMLSelectElement>('hex-of').value === 'file' ? 'file' : 'disk';
      this.goTo({ in: from, offset: 0 });
    });
    byId('hex-back').addEventListener('click', () => this.#move(-this.#page));
    byId('hex-on').addEventListener('click', () => this.#move(this.#page));
    byId('hex').tabIndex = 0;
    byId('hex').addEventListener('keydown', (event) => this.#key(event));
    this.#wide.addEventListener('change', () => this.#show());
  }

  /** Shows the start of another disk. */
  open(session: Session): void {
    this.#session = session;
    this.#place = { in: 'disk', offset: 0 };
    byId<HTMLSelectElement>('hex-of').value = 'disk';
    byId('hex').replaceChildren();
  }

  /** Shows the bytes at a place, and goes there. */
  async goTo(place: PlaceInImage): Promise<void> {
    byId<HTMLSelectElement>('hex-of').value = place.in;
    this.#place = { in: place.in, offset: this.#within(place) };
    await this.#show();
  }

  get #perRow(): number {
    return this.#wide.matches ? 16 : 8;
  }

  get #page(): number {
    return ROWS * this.#perRow;
  }

  get #size(): number {
    const { virtualSize = 0, fileSize = 0 } = this.#session?.opened ?? {};
    return this.#place.in === 'disk' ? virtualSize : fileSize;
  }

  #within({ in: from, offset }: PlaceInImage): number {
    const { virtualSize = 0, fileSize = 0 } = this.#session?.opened ?? {};
    const last = Math.max(0, (from === 'disk' ? virtualSize : fileSize) - 1);
    const inside = Math.max(0, Math.min(last, offset));
    return inside - (inside % this.#perRow);
  }

  #move(bytes: number): void {
    this.goTo({ in: this.#place.in, offset: this.#place.offset + bytes });
  }

  #key(event: KeyboardEvent): void {
    const moves: Readonly<Record<string, number>> = {
      ArrowUp: -this.#perRow,
      ArrowDown: this.#perRow,
      PageUp: -this.#page,
      PageDown: this.#page,
      Home: -this.#place.offset,
      End: this.#size,
    };
    const move = moves[event.key];
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#move(move);
  }

  async #show(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    const turn = ++this.#turn;
    const { in: from, offset } = this.#place;
    byId<HTMLInputElement>('hex-offset').value = `0x${offset.toString(16)}`;
    byId<HTMLButtonElement>('hex-back').disabled = offset === 0;
    byId<HTMLButtonElement>('hex-on').disabled = offset + this.#page >= this.#size;
    try {
      const bytes = await session.client.ask('read', { from, offset, length: this.#page });
      if (turn !== this.#turn) return;
      byId('hex').replaceChildren(...rowsOf(bytes, offset, this.#perRow));
      byId('hex-error').hidden = true;
    } catch (error) {
      if (error instanceof Superseded || turn !== this.#turn) return;
      byId('hex').replaceChildren();
      this.#say(messageOf(error));
    }
  }

  #say(text: string): void {
    const error = byId('hex-error');
    error.replaceWith(Object.assign(alertLine(text), { id: 'hex-error' }));
  }
}

/** A row: offset, bytes in two halves, what of them can be printed. */
function rowsOf(bytes: Uint8Array, offset: number, perRow: number): HTMLElement[] {
  const rows: HTMLElement[] = [];
  const digits = Math.max(8, (offset + bytes.length).toString(16).length);
  for (let at = 0; at < bytes.length; at += perRow) {
    const row = bytes.subarray(at, at + perRow);
    const texts = Array.from(row, (byte) => byte.toString(16).padStart(2, '0'));
    const half = perRow / 2;
    const hexText = `${texts.slice(0, half).join(' ')}  ${texts.slice(half).join(' ')}`;
    const place = (offset + at).toString(16).padStart(digits, '0');
    const printed = Array.from(row, (byte) =>
      byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·',
    ).join('');
    rows.push(
      h(
        'div',
        row.every((byte) => byte === 0) ? { class: 'zeros' } : {},
        h('span', { class: 'at' }, `${place}  `),
        h('span', {}, `${hexText.padEnd(perRow * 3)}  `),
        h('span', { class: 'text' }, printed),
      ),
    );
  }
  return rows;
}
