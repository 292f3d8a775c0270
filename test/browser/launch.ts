import { type Browser, chromium } from 'playwright-core';

/** Debian's, without what it would do over the network on its own. */
export const BROWSER = {
  executablePath: '/usr/bin/chromium',
  args: [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
};

/** @throws Error when Chromium is not installed */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch(BROWSER);
}
