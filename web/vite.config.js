import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { offlineBuild } from './save/offline-build.js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  plugins: [offlineBuild()],
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
      input: { index: here('index.html'), 'service-worker': here('service-worker.ts') },
      output: {
        // Its place decides what a service worker may serve, its name must stay.
        entryFileNames: ({ name }) =>
          name === 'service-worker' ? '[name].js' : 'assets/[name]-[hash].js',
      },
    },
  },
});
