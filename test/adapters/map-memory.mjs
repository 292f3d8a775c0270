// Opens a disk of 16 TiB whose map is as large as it gets, a few clusters being stored everywhere, in a
// file that is made up as it is read. Prints how much memory that took, in bytes, and checks the map.
const [index, blocks] = process.argv.slice(2);
const { create, Image, MemoryStorage } = await import(index);
const { BlockDisk } = await import(blocks);

const CLUSTER = 65536;
const SIZE = 16 * 2 ** 40;
const TABLES = SIZE / (8192 * CLUSTER);

const empty = new MemoryStorage();
await create(empty, { format: 'qcow2', size: SIZE });
const l1Offset = Number(new DataView(empty.bytes.slice().buffer).getBigUint64(40));
const firstTable = 2 ** 30;

// All L2 tables are alike: whose clusters are shared, reading does not ask.
const table = new Uint8Array(CLUSTER);
const entries = new DataView(table.buffer);
for (let i = 0; i < 8192; i += 64) entries.setBigUint64(i * 8, BigInt(2 ** 40 + i * CLUSTER));

const l1 = new DataView(new ArrayBuffer(TABLES * 8));
for (let i = 0; i < TABLES; i++) l1.setBigUint64(i * 8, BigInt(firstTable + i * CLUSTER));

const storage = {
  size: 2 ** 41,
  read(offset, into) {
    if (offset >= firstTable) {
      for (let at = 0; at < into.length; at += CLUSTER)
        into.set(table.subarray(0, Math.min(CLUSTER, into.length - at)), at);
      return into.length;
    }
    into.fill(0);
    empty.read(offset, into);
    const from = Math.max(offset, l1Offset);
    const to = Math.min(offset + into.length, l1Offset + TABLES * 8);
    if (from < to) into.set(new Uint8Array(l1.buffer, from - l1Offset, to - from), from - offset);
    return into.length;
  },
  close() {},
};

const image = await Image.open(storage);
await image.read(0, new Uint8Array(512));
globalThis.gc();
const before = process.memoryUsage();
const disk = await BlockDisk.open(image);
globalThis.gc();
const after = process.memoryUsage();
let last = -1;
let seen = 0;
for (const block of disk.blockIndexes()) {
  last = block;
  if (++seen === 100_000) break;
}
console.log(
  JSON.stringify({
    grown: after.rss - before.rss,
    held: after.arrayBuffers - before.arrayBuffers,
    presentCount: disk.presentCount,
    blockCount: disk.blockCount,
    last,
    flags: [disk.hasBlock(2 ** 27), disk.hasBlock(2 ** 27 + 1)],
  }),
);
