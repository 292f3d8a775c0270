import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import type { TestKey, TestPage } from './browsers.ts';

/** Code that makes `axe` in a page. */
export const AXE = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf8',
);

/** Builds the page as `npm run web` does. */
export async function buildExplorer(outDir: string): Promise<void> {
  const configFile = fileURLToPath(new URL('../../web/vite.config.js', import.meta.url));
  await build({ configFile, logLevel: 'silent', build: { outDir } });
}

/** The page, in words of the tests. */
export class ExplorerPage {
  readonly page: TestPage;
  readonly #folder: string;

  /** @param folder where the images are */
  constructor(page: TestPage, folder: string) {
    this.page = page;
    this.#folder = folder;
  }

  /** Opens files and waits until there is an image or an error. @returns milliseconds */
  async open(...names: string[]): Promise<number> {
    return this.timed(() =>
      this.page.setFiles(
        '#files',
        names.map((name) => join(this.#folder, name)),
      ),
    );
  }

  /** Opens files by their URLs, or whatever is typed. */
  openUrls(...urls: string[]): Promise<number> {
    return this.timed(() =>
      this.page.evaluate(`(() => {
        document.querySelector('#url').value = ${JSON.stringify(urls.join(' '))};
        document.querySelector('#open-url').requestSubmit();
      })()`),
    );
  }

  /** Drops a file, as it is on the disk. */
  async drop(name: string): Promise<number> {
    await this.page.evaluate(`(() => {
      const input = Object.assign(document.createElement('input'), { type: 'file', id: 'dragged' });
      document.body.append(input);
    })()`);
    await this.page.setFiles('#dragged', [join(this.#folder, name)]);
    return this.timed(() =>
      this.page.evaluate(`(() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(document.querySelector('#dragged').files[0]);
        const event = { dataTransfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent('drop', event));
      })()`),
    );
  }

  /** Milliseconds until something opened can be seen. What is still drawn of the image before does not count. */
  async timed(action: () => Promise<unknown>): Promise<number> {
    await this.page.evaluate(`(() => {
      document.querySelector('#legend').replaceChildren();
      document.querySelector('#name').textContent = '';
      for (const id of ['error', 'map-error']) document.getElementById(id).hidden = true;
    })()`);
    const started = performance.now();
    await action();
    await this.settled();
    const taken = performance.now() - started;
    await this.page.evaluate(`(document.querySelector('#dragged')?.remove(), null)`);
    return taken;
  }

  /** Something to see: the map, or a line that says why there is none. */
  settled(): Promise<void> {
    return this.page.waitFor(`(document.querySelector('#name').textContent !== '' &&
        document.querySelector('#legend li') !== null) ||
      [...document.querySelectorAll('#error, #map-error')].some((e) => e.checkVisibility())`);
  }

  /** Text of what a selector finds, empty if it is not shown. */
  text(selector: string): Promise<string> {
    return this.page.evaluate(`[...document.querySelectorAll(${JSON.stringify(selector)})]
      .filter((e) => e.checkVisibility()).map((e) => e.textContent.trim()).join(' | ')`);
  }

  async tab(name: string): Promise<string> {
    await this.page.click(`#tab-${name}`);
    const panel = `#panel-${name}`;
    await this.page.waitFor(`!document.querySelector('${panel}').hasAttribute('aria-busy')`);
    return this.text(panel);
  }

  /** Clicks what has this text. */
  async clickText(selector: string, text: string): Promise<void> {
    const found = `[...document.querySelectorAll(${JSON.stringify(selector)})]
      .find((e) => e.textContent.includes(${JSON.stringify(text)}))`;
    await this.page.evaluate(`${found}.click()`);
  }

  /** The bytes the hex view shows, from a place on. */
  async bytesAt(offset: string): Promise<Buffer> {
    await this.page.evaluate(`(() => {
      document.querySelector('#hex-offset').value = '${offset}';
      document.querySelector('#hex').replaceChildren();
      document.querySelector('#hex-go').requestSubmit();
    })()`);
    await this.page.waitFor(`document.querySelector('#hex div') !== null`);
    const digits = await this.page.evaluate<string>(
      `[...document.querySelectorAll('#hex div')].map((row) => row.children[1].textContent).join('')`,
    );
    return Buffer.from(digits.replaceAll(/\s/g, ''), 'hex');
  }

  /** Converts the image. @returns what is said of it then */
  async convert(format: 'raw' | 'qcow2' | 'compressed'): Promise<string> {
    await this.tab('convert');
    await this.page.evaluate(`document.querySelector('#convert-format').value = '${format}'`);
    await this.page.click('#convert-start');
    await this.shows('#convert-result', 'sha256');
    return this.text('#convert-result');
  }

  /**
   * Presses Tab from the beginning of the page to the last thing that takes it: what is reached, with
   * `unseen` before it where nothing shows that. Beyond the last the browser would keep the focus.
   */
  async walk(): Promise<string[]> {
    await this.page.evaluate(`(() => {
      document.body.tabIndex = -1;
      document.body.focus();
      document.body.removeAttribute('tabindex');
    })()`);
    const reached: string[] = [];
    for (let isLast = false; !isLast; ) {
      await this.page.press('Tab');
      const at = await this.page.evaluate<{ name: string; isLast: boolean }>(`(() => {
        const e = document.activeElement;
        const isSeen = [e, e.nextElementSibling, e.closest('label')].some((mark) => {
          if (!mark) return false;
          const { outlineStyle, outlineWidth } = getComputedStyle(mark);
          return outlineStyle !== 'none' && parseFloat(outlineWidth) > 0;
        });
        const last = [...document.querySelectorAll('button, input, select, [tabindex]')]
          .findLast((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0);
        const name = (isSeen ? '' : 'unseen ') + (e.id || e.textContent);
        return { name, isLast: e === last || e === document.body };
      })()`);
      reached.push(at.name);
      isLast = at.isLast;
    }
    return reached;
  }

  async press(...keys: TestKey[]): Promise<void> {
    for (const key of keys) await this.page.press(key);
  }

  /** Waits until a part of the page has a text. */
  shows(selector: string, text: string): Promise<void> {
    return this.page.waitFor(
      `document.querySelector('${selector}').textContent.includes(${JSON.stringify(text)})`,
    );
  }

  /** Serious findings of axe. */
  async violations(scheme: 'light' | 'dark'): Promise<string[]> {
    return this.page.evaluate(`(async () => {
      document.documentElement.style.colorScheme = '${scheme}';
      const { violations } = await axe.run(document, { resultTypes: ['violations'] });
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html).join(', '));
    })()`);
  }
}
