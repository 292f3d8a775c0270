// Backs up a disk image as a compressed qcow2 file, with progress, and checks the copy.
//
//   node examples/backup.js disk.qcow2 backup.qcow2
//
// Ctrl-C stops it and leaves nothing behind: the target appears when it is whole.
import { check, compareFiles, convertFile, FileStorage, isQcow2Error } from 'qcow2';

const [source, target] = process.argv.slice(2);
if (target === undefined) {
  console.error('usage: node examples/backup.js SOURCE TARGET');
  process.exit(1);
}

const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

/** Overwrites one line of the terminal. */
function show(what) {
  return (done, total) => {
    const percent = total > 0 ? (100 * done) / total : 100;
    process.stderr.write(`\r${what} ${percent.toFixed(1)} %`);
    if (done === total) process.stderr.write('\n');
  };
}

try {
  const inputs = [{ path: source }];
  await convertFile({
    inputs,
    target,
    targetFormat: 'qcow2',
    compress: true,
    signal: stop.signal,
    onProgress: show('backing up'),
  });

  const file = new FileStorage(target);
  const { corruptions, leaks } = await check(file, { signal: stop.signal });
  file.close();
  const { identical } = await compareFiles({
    inputs: [...inputs, { path: target, format: 'qcow2' }],
    signal: stop.signal,
    onProgress: show('comparing'),
  });
  if (corruptions > 0 || leaks > 0 || !identical) throw new Error('the backup is not sound');
  console.log(`${target} is a true copy of ${source}`);
} catch (error) {
  console.error(isQcow2Error(error) ? `\n${error.message}` : error);
  process.exitCode = 1;
}
