// `npm run web [-- --port N]`: set-up, a build of the image explorer into dist-web/, and a server of it on
// this machine. dist-web/ is a static folder: it works from any host, below any path.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { parseArgs } from 'node:util';
import { build, installDependencies, root, setUp } from './setup.mjs';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};
const folder = join(root, 'dist-web');

/** Serves the folder and nothing else. */
function answer(request, response) {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost');
  const path = join(folder, normalize(decodeURIComponent(pathname)));
  const file = path.startsWith(folder) ? pathOf(path) : undefined;
  if (file === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream',
    'Cache-Control': 'no-cache',
  });
  createReadStream(file).pipe(response);
}

function pathOf(path) {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory()) return pathOf(join(path, 'index.html'));
  return found?.isFile() ? path : undefined;
}

function serve(port) {
  const server = createServer((request, response) => {
    try {
      answer(request, response);
    } catch {
      response.writeHead(400).end();
    }
  });
  server.on('error', (/** @type {NodeJS.ErrnoException} */ { code, message }) => {
    const why = code === 'EADDRINUSE' ? `port ${port} is taken: try -- --port 0` : message;
    console.error(`web: ${why}`);
    process.exitCode = 1;
  });
  server.listen(port, '127.0.0.1', () => {
    const { port: taken } = /** @type {import('node:net').AddressInfo} */ (server.address());
    console.log(`The image explorer is at http://localhost:${taken}/`);
    console.log('Ctrl+C ends it. Images you open there stay on this computer.');
  });
}

const { values } = parseArgs({ options: { port: { type: 'string', default: '8437' } } });
if (setUp(installDependencies, build)) {
  try {
    const vite = await import('vite');
    await vite.build({ configFile: join(root, 'web/vite.config.js'), logLevel: 'error' });
    serve(Number(values.port));
  } catch (error) {
    console.error(`web: ${error.message}`);
    process.exitCode = 1;
  }
} else {
  process.exitCode = 1;
}
