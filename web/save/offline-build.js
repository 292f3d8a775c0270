import { createHash } from 'node:crypto';

const NAME = 'service-worker.js';
const MARK = '%OFFLINE_BUILD%';

/** Plugin of Vite: tells the service worker which files the page was built of. */
export function offlineBuild() {
  return {
    name: 'offline-build',
    // After the page itself was written, which others do late.
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_options, bundle) {
        const worker = bundle[NAME];
        const files = Object.keys(bundle).filter((name) => name !== NAME && !name.endsWith('.map'));
        const hash = createHash('sha256').update(worker.code);
        for (const name of files.sort()) {
          const { code, source } = bundle[name];
          hash.update(name).update(code ?? source);
        }
        const build = { version: hash.digest('hex').slice(0, 16), files };
        const text = encodeURIComponent(JSON.stringify(build)).replaceAll("'", '%27');
        if (!worker.code.includes(MARK)) throw new Error(`${NAME} has no place for ${MARK}`);
        worker.code = worker.code.replace(MARK, () => text);
      },
    },
  };
}
