import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** Ends a writer of QEMU so that it leaves the bitmaps of an image in use. */
export async function leaveInUse(image: string, cwd: string): Promise<void> {
  const writer = spawn('qemu-io', [image], { cwd });
  // Its prompt comes when the image is open.
  await once(writer.stdout, 'data');
  writer.kill('SIGKILL');
  await once(writer, 'exit');
}
