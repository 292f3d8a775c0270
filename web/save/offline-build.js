import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, sep } from 'node:path';

const NAME = 'service-worker.js';
const MARK = '%OFFLINE_BUILD%';

/**
 * Plugin of Vite: tells the service worker, an entry that is built to `service-worker.js`, which files
 * the page was built of.
 */
export function offlineBuild() {
  let publicDir = '';
  return {
    name: 'offline-build',
    // After the page itself was written, which others do late.
    enforce: 'post',
    configResolved(config) {
      publicDir = config.publicDir;
    },
    generateBundle: {
      order: 'post',
      handler(_options, bundle) {
        const worker = bundle[NAME];
        const contents = new Map(copiedFiles(publicDir));
        for (const [name, { code, source }] of Object.entries(bundle))
          if (name !== NAME && !name.endsWith('.map')) contents.set(name, code ?? source);
        const files = [...contents.keys()].sort();
        const hash = createHash('sha256').update(worker.code);
        for (const name of files) hash.update(name).update(contents.get(name));
        const build = { version: hash.digest('hex').slice(0, 16), files };
        const text = encodeURIComponent(JSON.stringify(build)).replaceAll("'", '%27');
        if (!worker.code.includes(MARK)) throw new Error(`${NAME} has no place for ${MARK}`);
        worker.code = worker.code.replace(MARK, () => text);
      },
    },
  };
}

/** What Vite copies as it is: names and contents. */
function copiedFiles(folder) {
  if (folder === '' || !existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile())
    .map((name) => [name.replaceAll(sep, '/'), readFileSync(join(folder, name))]);
}
