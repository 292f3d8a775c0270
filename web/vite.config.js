import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const entries = { index: here('index.html'), 'service-worker': here('service-worker.ts') };

/** What makes the page work without a network. */
const offline = here('save/offline-build.js');
const plugins = existsSync(offline) ? [(await import(offline)).offlineBuild()] : [];

export default defineConfig({
  plugins,
  root: here('.'),
  // Works below any path of any host.
  base: './',
  worker: { format: 'es' },
  build: {
    outDir: here('../dist-web'),
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    // Each file by itself: the policy of the page allows no `data:` scripts and styles.
    assetsInlineLimit: 0,
    rollupOptions: {
      input: Object.fromEntries(Object.entries(entries).filter(([, path]) => existsSync(path))),
      output: {
        // Its place decides what a service worker may serve, its name must stay.
        entryFileNames: ({ name }) =>
          name === 'service-worker' ? '[name].js' : 'assets/[name]-[hash].js',
      },
    },
  },
});
