// The kernel suites in headless Chromium, on the same clusters; there is no C to compare with.
import { chromium } from 'playwright-core';
import { loadInputs } from '../kernels/inputs.mjs';
import { suiteNames } from '../kernels/suites.mjs';
import { serve } from './server.mjs';

/** Debian's, without what it would do over the network on its own. */
const CHROMIUM = {
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'],
};

/**
 * @param {object} options
 * @param {(name: string) => boolean} options.wants
 * @param {number} options.milliseconds for each contender
 * @param {(text: string) => void} options.log
 */
export async function runBrowserBenches({ wants, milliseconds, log }) {
  const names = suiteNames().filter(wants);
  if (names.length === 0) return [];
  const batches = Object.entries(await loadInputs(log));
  const lengths = Object.fromEntries(batches.map(([name, batch]) => [name, [...batch.lengths]]));
  const server = await serve(Object.fromEntries(batches.map(([name, { bytes }]) => [name, bytes])));
  const browser = await chromium.launch(CHROMIUM);
  try {
    const page = await browser.newPage();
    page.on('console', (message) => log(message.text()));
    await page.goto(`${server.origin}/bench/browser/page.html`);
    const rows = await page.evaluate(
      (options) => import('/bench/browser/page.mjs').then(({ run }) => run(options)),
      { names, milliseconds, lengths },
    );
    const browserName = `Chromium ${browser.version()}`;
    return rows.map((row) => ({ ...row, browser: browserName }));
  } finally {
    await browser.close();
    await server.close();
  }
}
