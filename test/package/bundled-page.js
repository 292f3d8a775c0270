// Bundled by each bundler: makes an image, compresses it, and reads it back, in a page.
import { check, convert, Image, MemoryStorage } from 'qcow2';

const disk = new Uint8Array(1 << 20).map((_, index) => index % 251);
const packed = new MemoryStorage();
const source = await Image.open(disk, { format: 'raw' });
await convert(source, packed, { format: 'qcow2', compress: true });
const image = await Image.open(packed.bytes);
const read = new Uint8Array(disk.length);
await image.read(0, read);
globalThis.result = {
  same: read.every((byte, index) => byte === disk[index]),
  backend: image.kernel.backend,
  corruptions: (await check(image)).corruptions,
};
