// Looks inside an image on a web server without downloading it, over HTTP range requests. Works in
// browsers as it does in Node.
//
//   node examples/http-range.js https://example.org/disk.qcow2
import { HttpStorage, httpResolver, Image, info, map } from 'qcow2';

const [url] = process.argv.slice(2);
if (url === undefined) {
  console.error('usage: node examples/http-range.js URL');
  process.exit(1);
}

const storage = await HttpStorage.open(url);
// Backing files are looked for in the folder of the image.
const image = await Image.open(storage, { resolver: httpResolver(url) });
const { format, virtualSize } = await info(image);
let stored = 0;
for await (const { data, length } of map(image)) if (data) stored += length;
const boot = new Uint8Array(512);
await image.read(0, boot);
await image.close();

console.log(`${format}, a disk of ${virtualSize} bytes, ${stored} of them stored`);
console.log(`boot sector: ${boot[510] === 0x55 && boot[511] === 0xaa ? 'yes' : 'no'}`);
console.log(`requests: ${storage.requests}, for a file of ${storage.size} bytes`);
