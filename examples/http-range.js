// Looks inside an image on a web server without downloading it: a storage of one's own over HTTP range
// requests. Works in browsers as it does in Node.
//
//   node examples/http-range.js https://example.org/disk.qcow2
import { Image, info, map } from 'qcow2';

/** Bytes of a file on a web server. `size`, `read` and `close` are all that reading needs. */
class HttpStorage {
  constructor(url, size) {
    this.name = url;
    this.size = size;
    this.requests = 0;
  }

  static async open(url) {
    const { ok, status, headers } = await fetch(url, { method: 'HEAD' });
    if (!ok) throw new Error(`${url}: status ${status}`);
    return new HttpStorage(url, Number(headers.get('content-length')));
  }

  async read(offset, into) {
    const end = Math.min(offset + into.length, this.size);
    if (end <= offset) return 0;
    this.requests++;
    const response = await fetch(this.name, { headers: { range: `bytes=${offset}-${end - 1}` } });
    if (response.status !== 206)
      throw new Error(`${this.name}: status ${response.status}, not 206`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes.length !== end - offset) throw new Error(`${this.name}: a part is cut short`);
    into.set(bytes);
    return bytes.length;
  }

  close() {}
}

const [url] = process.argv.slice(2);
if (url === undefined) {
  console.error('usage: node examples/http-range.js URL');
  process.exit(1);
}

const storage = await HttpStorage.open(url);
const image = await Image.open(storage);
const { format, virtualSize } = await info(image);
let stored = 0;
for await (const { data, length } of map(image)) if (data) stored += length;
const boot = new Uint8Array(512);
await image.read(0, boot);
await image.close();

console.log(`${format}, a disk of ${virtualSize} bytes, ${stored} of them stored`);
console.log(`boot sector: ${boot[510] === 0x55 && boot[511] === 0xaa ? 'yes' : 'no'}`);
console.log(`${storage.requests} requests for a file of ${storage.size} bytes`);
