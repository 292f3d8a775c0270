import { byId } from '../dom.ts';
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
    const { chain } = session.opened;
    const top = chain[0]?.name;
    const files = [...session.files].sort(
      (a, b) => Number(b.name === top) - Number(a.name === top),
    );
    const request: SaveRequest = {
      files,
      ...(session.url !== undefined && { url: session.url }),
      ...this.#format,
      suggestedName: byId<HTMLInputElement>('convert-name').value,
    };
    this.#show(true);
    try {
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
      if (this.#running === running) this.#running = undefined;
      this.#show(false);
    }
  }

  #progress(done: number, total: number): void {
    const progress = byId<HTMLProgressElement>('convert-progress');
    progress.max = Math.max(1, total);
    progress.value = done;
  }

  #show(isRunning: boolean): void {
    byId<HTMLButtonElement>('convert-start').disabled = isRunning;
    byId('convert-stop').hidden = !isRunning;
    byId('convert-progress').hidden = !isRunning;
    if (!isRunning) return;
    this.#progress(0, 1);
    byId('convert-result').textContent = '';
    byId('convert-error').hidden = true;
  }

  #say(text: string): void {
    const error = byId('convert-error');
    error.textContent = text;
    error.hidden = false;
  }
}
