// The kernel suites in headless Chromium, on the same clusters; there is no C to compare with.
import { chromium } from 'playwright-core';
import { loadInputs } from '../kernels/inputs.mjs';
import { serve } from './server.mjs';

/** Debian's, without what it would do over the network on its own. */
const CHROMIUM = {
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'],
};

/** @param {{ only: string[], milliseconds: number, log: (text: string) => void }} options */
export async function runBrowserBenches({ only, milliseconds, log }) {
  const batches = Object.entries(await loadInputs(log));
  const lengths = Object.fromEntries(batches.map(([name, batch]) => [name, [...batch.lengths]]));
  const server = await serve(Object.fromEntries(batches.map(([name, { bytes }]) => [name, bytes])));
  const browser = await chromium.launch(CHROMIUM);
  try {
    const page = await browser.newPage();
    page.on('console', (message) => log(message.text()));
    await page.goto(`${server.origin}/bench/browser/page.html`);
    const kernels = await page.evaluate(
      (options) => import('/bench/browser/page.mjs').then(({ run }) => run(options)),
      { only, milliseconds, lengths },
    );
    return { browser: `Chromium ${browser.version()}`, kernels };
  } finally {
    await browser.close();
    await server.close();
  }
}
