// Serves folders of the project, and some bytes, to a page that is isolated and so has a fine clock.
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = ['build', 'bench', 'node_modules'];
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};
const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/**
 * @param {Record<string, Uint8Array>} inputs served below /inputs/
 * @returns {Promise<{ origin: string, close: () => Promise<void> }>}
 */
export async function serve(inputs) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const body = bodyOf(normalize(decodeURIComponent(pathname)).slice(1), inputs);
    const type = TYPES[extname(pathname)] ?? 'application/octet-stream';
    response.writeHead(body ? 200 : 404, { 'Content-Type': type, ...ISOLATION }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, close };
}

function bodyOf(path, inputs) {
  const [first, ...rest] = path.split('/');
  if (first === 'inputs') return inputs[rest.join('/')];
  const file = join(root, path);
  const isServed = FOLDERS.includes(first) && statSync(file, { throwIfNoEntry: false })?.isFile();
  return isServed ? readFileSync(file) : undefined;
}
