// Streams a disk of 384 MiB that is made up as it is read, and prints the peak of resident memory and
// the bytes that came for each kind of stream.
const [index] = process.argv.slice(2);
const { Image, toReadable } = await import(index);

const MIB = 2 ** 20;
const pattern = new Uint8Array(3 * MIB);
for (let i = 0; i < MIB; i++) pattern[i] = Math.imul(i, 2654435761) >>> 13;
for (let i = MIB; i < 2 * MIB; i++) pattern[i] = 97 + (i % 7);

const storage = {
  size: 384 * MIB,
  read(offset, into) {
    for (let done = 0; done < into.length; ) {
      const at = (offset + done) % pattern.length;
      const part = pattern.subarray(at, at + into.length - done);
      into.set(part, done);
      done += part.length;
    }
    return into.length;
  },
  close() {},
};

const kinds = {
  raw: { format: 'raw' },
  plain: { format: 'qcow2' },
  found: { format: 'qcow2', zeros: 'found', create: { clusterSize: 4096 } },
  compressed: { format: 'qcow2', compress: true },
};
const seen = {};
for (const [name, options] of Object.entries(kinds)) {
  const image = await Image.open(storage, { format: 'raw' });
  const { length, stream } = await toReadable(image, options);
  let bytes = 0;
  for await (const piece of stream) bytes += piece.length;
  if (bytes !== length) throw new Error(`${name}: ${bytes} of ${length}`);
  seen[name] = bytes;
}
console.log(JSON.stringify({ peak: process.resourceUsage().maxRSS / 1024, seen }));
