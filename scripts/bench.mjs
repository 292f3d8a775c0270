// `npm run bench [-- PART...] [--rounds N]`: set-up, then the benches against qemu-img and others.
import { spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';
import {
  build,
  installDebianPackages,
  installDependencies,
  optional,
  root,
  setUp,
} from './setup.mjs';

/** Makes the file system the images hold. */
const FILE_SYSTEM = [{ name: 'e2fsprogs', commands: ['mkfs.ext4'] }];
/** What the C contenders are compiled with; without them the tables have no such rows. */
const C_LIBRARIES = [
  { name: 'gcc', commands: ['cc'] },
  { name: 'libc6-dev', files: ['/usr/include/string.h'] },
  { name: 'zlib1g-dev', files: ['/usr/include/zlib.h'] },
  { name: 'libdeflate-dev', files: ['/usr/include/libdeflate.h'] },
  { name: 'libzstd-dev', files: ['/usr/include/zstd.h'] },
];

// mkfs.ext4 is where only root looks for commands.
process.env.PATH += `${delimiter}/usr/sbin`;

const steps = [
  installDependencies,
  () => installDebianPackages(),
  () => installDebianPackages(FILE_SYSTEM),
  optional(() => installDebianPackages(C_LIBRARIES)),
  build,
];
if (setUp(...steps)) {
  const args = [join(root, 'bench/run.mjs'), ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1;
} else {
  process.exitCode = 1;
}
