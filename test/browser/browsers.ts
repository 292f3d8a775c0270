import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import puppeteer, { type Browser, type Page as FirefoxPage } from 'puppeteer-core';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER } from './launch.ts';

/** Keys the tests press. */
export type TestKey =
  | 'Tab'
  | 'Enter'
  | 'Space'
  | 'ArrowRight'
  | 'ArrowDown'
  | 'PageDown'
  | 'End'
  | '+'
  | 'Escape';

/** What the tests that run in every browser need of a page. Code is text: it is not compiled. */
export interface TestPage {
  goto(url: string): Promise<void>;
  /** Value of an expression, which may be a promise of it. */
  evaluate<T>(code: string): Promise<T>;
  /** Waits until an expression is true. */
  waitFor(code: string, seconds?: number): Promise<void>;
  setFiles(selector: string, paths: readonly string[]): Promise<void>;
  click(selector: string): Promise<void>;
  press(key: TestKey): Promise<void>;
  /** Moves the mouse over the middle of an element. */
  hover(selector: string): Promise<void>;
  /** Two fingers on a touch screen, one at a place, the other below it at one distance and then at another. */
  pinch(at: { x: number; y: number }, from: number, to: number): Promise<void>;
  resize(width: number, height: number): Promise<void>;
  screenshot(path: string): Promise<void>;
}

/** A browser with a profile of its own, as a person has one. */
export interface TestBrowser {
  open(): Promise<TestPage>;
  close(): Promise<void>;
}

/** A finger on a touch screen. */
interface Finger {
  x: number;
  y: number;
  id: number;
}

/** Two fingers, of which the lower one moves up and down: as it would scroll. */
function fingers({ x, y }: { x: number; y: number }, apart: number): Finger[] {
  return [0, apart].map((below, id) => ({ x, y: y + below, id }));
}

function steps(from: number, to: number): number[] {
  return Array.from({ length: 10 }, (_, i) => from + ((to - from) * (i + 1)) / 10);
}

const POLL_MILLISECONDS = 50;

export type BrowserName = 'chromium' | 'firefox';
export const BROWSER_NAMES: readonly BrowserName[] = ['chromium', 'firefox'];

/**
 * @param downloads folder for what is downloaded; Chromium gives the files names of its own there
 * @throws Error when it is not installed
 */
export async function launch(name: BrowserName, downloads?: string): Promise<TestBrowser> {
  const profile = makeTempDir(`${name}-profile`);
  const start = name === 'chromium' ? startChromium : startFirefox;
  const browser = await start(profile, downloads ?? join(profile, 'downloads'));
  return {
    open: browser.open,
    async close() {
      await browser.close();
      removeTempDir(profile);
    },
  };
}

async function startChromium(profile: string, downloadsPath: string): Promise<TestBrowser> {
  const options = { ...BROWSER, downloadsPath };
  const context: BrowserContext = await chromium.launchPersistentContext(profile, options);
  const open = async () => chromiumPage(await context.newPage());
  return { open, close: () => context.close() };
}

function chromiumPage(page: Page): TestPage {
  return {
    goto: async (url) => void (await page.goto(url)),
    evaluate: <T>(code: string) => page.evaluate<T>(code),
    waitFor: (code, seconds = 30) => untilTrue(page, code, seconds),
    setFiles: (selector, paths) => page.setInputFiles(selector, [...paths]),
    click: (selector) => page.click(selector),
    press: (key) => page.keyboard.press(key),
    hover: (selector) => page.hover(selector),
    async pinch(at, from, to) {
      const session = await page.context().newCDPSession(page);
      const send = (type: 'touchStart' | 'touchMove' | 'touchEnd', touchPoints: Finger[]) =>
        session.send('Input.dispatchTouchEvent', { type, touchPoints });
      await send('touchStart', fingers(at, from));
      for (const apart of steps(from, to)) await send('touchMove', fingers(at, apart));
      await send('touchEnd', []);
      await session.detach();
    },
    resize: (width, height) => page.setViewportSize({ width, height }),
    screenshot: async (path) => void (await page.screenshot({ path })),
  };
}

/** Asks from outside: what waits within a page may not be text where its policy forbids `eval`. */
async function untilTrue(page: Page, code: string, seconds: number): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await page.evaluate<boolean>(`Promise.resolve(${code}).then(Boolean)`))) {
    if (Date.now() > end) throw new Error(`not true after ${seconds} seconds: ${code}`);
    await setTimeout(POLL_MILLISECONDS);
  }
}

async function startFirefox(profile: string, downloads: string): Promise<TestBrowser> {
  const browser: Browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: '/usr/bin/firefox-esr',
    headless: true,
    userDataDir: join(profile, 'firefox'),
    extraPrefsFirefox: {
      'network.captive-portal-service.enabled': false,
      'browser.download.folderList': 2,
      'browser.download.dir': downloads,
      // It takes the focus from the page.
      'browser.download.alwaysOpenPanel': false,
      'browser.helperApps.neverAsk.saveToDisk': 'application/octet-stream',
    },
  });
  const open = async () => firefoxPage(await browser.newPage());
  return { open, close: () => browser.close() };
}

function firefoxPage(page: FirefoxPage): TestPage {
  return {
    goto: async (url) => void (await page.goto(url)),
    evaluate: <T>(code: string) => page.evaluate(code) as Promise<T>,
    waitFor: async (code, seconds = 30) =>
      void (await page.waitForFunction(code, {
        timeout: seconds * 1000,
        polling: POLL_MILLISECONDS,
      })),
    async setFiles(selector, paths) {
      const input = await page.$(selector);
      if (input === null) throw new Error(`no ${selector} in the page`);
      await (input as unknown as { uploadFile(...names: string[]): Promise<void> }).uploadFile(
        ...paths,
      );
    },
    click: (selector) => page.click(selector),
    press: (key) => page.keyboard.press(key),
    hover: (selector) => page.hover(selector),
    async pinch(at, from, to) {
      const touches: Awaited<ReturnType<typeof page.touchscreen.touchStart>>[] = [];
      for (const { x, y } of fingers(at, from))
        touches.push(await page.touchscreen.touchStart(x, y));
      for (const apart of steps(from, to))
        for (const [i, { x, y }] of fingers(at, apart).entries()) await touches[i]!.move(x, y);
      for (const touch of touches) await touch.end();
    },
    resize: (width, height) => page.setViewport({ width, height }),
    screenshot: async (path) => void (await page.screenshot({ path: path as `${string}.png` })),
  };
}
