// `npm run bench [-- PART...] [--rounds N]`: set-up, then the benches against qemu-img.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build, installDebianPackages, installDependencies, root, setUp } from './setup.mjs';

if (setUp(installDependencies, installDebianPackages, build)) {
  const args = [join(root, 'bench/run.mjs'), ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1;
} else {
  process.exitCode = 1;
}
