import { byId } from '../dom.ts';
import { ownName } from '../model/open-files.ts';
import { sizeText } from '../model/sizes.ts';
import { convertAndSave, type SaveRequest } from '../save/convert-and-save.ts';
import { messageOf, type Session } from './session.ts';

const PLACES = {
  picker: 'saved where you chose',
  download: 'in your downloads',
  opfs: 'in your downloads',
} as const;

const HELD =
  'This browser may hold the whole file in memory until it is saved: it has no room for it elsewhere.';

/** The form that converts the image; it writes a new file and leaves the image as it is. */
export class ConvertView {
  #session: Session | undefined;
  #running: AbortController | undefined;
  /** When that began, in milliseconds. */
  #started = 0;
  /** The name a person typed is kept. */
  #isNamed = false;

  constructor() {
    byId('convert').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#run();
    });
    byId('convert-stop').addEventListener('click', () => this.#running?.abort());
    byId('convert-format').addEventListener('change', () => this.#suggest());
    byId('convert-name').addEventListener('input', () => {
      this.#isNamed = true;
    });
  }

  /** Makes ready for another image; a conversion under way ends. */
  open(session: Session): void {
    this.#running?.abort();
    this.#running = undefined;
    this.#show(false);
    this.#session = session;
    this.#isNamed = false;
    byId('convert-result').textContent = '';
    byId('convert-error').hidden = true;
    this.#suggest();
  }

  get #format(): { format: 'raw' | 'qcow2'; compress: boolean } {
    const { value } = byId<HTMLSelectElement>('convert-format');
    return { format: value === 'raw' ? 'raw' : 'qcow2', compress: value === 'compressed' };
  }

  #suggest(): void {
    const name = this.#session?.opened.name ?? '';
    const base = name.slice(name.lastIndexOf('/') + 1).replace(/\.(qcow2|raw|img)$/, '');
    if (!this.#isNamed)
      byId<HTMLInputElement>('convert-name').value =
        `${base || 'disk'}-converted.${this.#format.format}`;
  }

  async #run(): Promise<void> {
    const session = this.#session;
    if (session === undefined || this.#running !== undefined) return;
    const running = new AbortController();
    this.#running = running;
    const suggestedName = byId<HTMLInputElement>('convert-name').value;
    this.#show(true);
    try {
      const request: SaveRequest = { ...sourcesOf(session), ...this.#format, suggestedName };
      // First of all, so that the click still counts when a place is asked for.
      const { name, bytes, sha256, where } = await convertAndSave(request, {
        onProgress: (done, total) => this.#progress(done, total),
        signal: running.signal,
        onHeld: () => {
          byId('convert-result').textContent = HELD;
        },
      });
      byId('convert-result').textContent =
        `${name}, ${sizeText(bytes)}, ${PLACES[where]}. sha256 ${sha256}`;
    } catch (error) {
      byId('convert-result').textContent = '';
      if (this.#running === running && !running.signal.aborted) this.#say(messageOf(error));
    } finally {
      // Another image may have been opened, and its conversion begun.
      if (this.#running === running) {
        this.#running = undefined;
        this.#show(false);
        if (running.signal.aborted)
          byId('convert-result').textContent = 'Stopped. Nothing of it was kept.';
      }
    }
  }

  #progress(done: number, total: number): void {
    const progress = byId<HTMLProgressElement>('convert-progress');
    progress.max = Math.max(1, total);
    progress.value = done;
    const seconds = (performance.now() - this.#started) / 1000;
    const share = done / Math.max(1, total);
    const { virtualSize = 0 } = this.#session?.opened ?? {};
    byId('convert-rate').textContent = share > 0 ? rateText(share, virtualSize, seconds) : '';
  }

  #show(isRunning: boolean): void {
    byId<HTMLButtonElement>('convert-start').disabled = isRunning;
    byId('convert-stop').hidden = !isRunning;
    byId('convert-progress').hidden = !isRunning;
    byId('convert-rate').textContent = '';
    if (!isRunning) return;
    this.#started = performance.now();
    this.#progress(0, 1);
    byId('convert-result').textContent = 'Converting…';
    byId('convert-error').hidden = true;
  }

  #say(text: string): void {
    byId('convert-result').textContent = '';
    const error = byId('convert-error');
    error.textContent = text;
    error.hidden = false;
  }
}

/** How far it is, how fast on the whole, and how long the rest will take. */
function rateText(share: number, diskBytes: number, seconds: number): string {
  const left = Math.ceil((seconds * (1 - share)) / share);
  const rest = left < 60 ? `${left} s` : `${Math.ceil(left / 60)} min`;
  const rate = sizeText(Math.round((diskBytes * share) / seconds));
  return `${Math.floor(share * 100)} %, ${rate}/s, ${rest} left`;
}

/** What the image consists of, the image first. A file that was given for a name goes by that name. */
function sourcesOf({ given, opened }: Session): Pick<SaveRequest, 'files' | 'url'> {
  const [top, ...below] = opened.chain.flatMap(({ given: index }) => given[index ?? -1] ?? []);
  const files = below.map(({ source, as }) => {
    if (typeof source === 'string') return { name: ownName({ name: as ?? source }), url: source };
    return as === undefined ? source : new File([source], ownName({ name: as }));
  });
  const source = top?.source ?? '';
  return typeof source === 'string' ? { url: source, files } : { files: [source, ...files] };
}
