// Nothing but what the web platform has: the same file runs in Deno, Node, a worker or a page.
// In a project of its own it would say `qcow2`; here the built module of this folder is meant.
//
//   deno run examples/web-standard.js      node examples/web-standard.js
import { check, convert, create, Image, MemoryStorage } from '../dist/index.js';

const disk = new MemoryStorage();
await create(disk, { format: 'qcow2', size: 64 * 1024 ** 2 });
const image = await Image.open(disk, { writable: true });
await image.write(1024 ** 2, new TextEncoder().encode('written in memory\n'));
await image.flush();

const packed = new MemoryStorage();
await convert(image, packed, { format: 'qcow2', compress: true });
await image.close();

const copy = await Image.open(new Blob([packed.bytes.slice()]));
const text = new Uint8Array(18);
await copy.read(1024 ** 2, text);
const { corruptions } = await check(copy);
await copy.close();
console.log(new TextDecoder().decode(text).trim(), `${packed.size} bytes, ${corruptions} errors`);
