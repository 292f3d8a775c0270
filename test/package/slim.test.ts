import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runOk } from '../support/run.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Runs code in a process of its own, where no kernel has been loaded yet; `out` is what it tells. */
async function told(code: string): Promise<string> {
  const source = `import * as qcow2 from 'qcow2/slim';\n${code}`;
  const args = ['--input-type=module', '-e', source];
  return (await runOk(process.execPath, args, root)).stdout.trim();
}

test('qcow2/slim says what to do without a module', async () => {
  const code = 'try { qcow2.createKernel() } catch (error) { console.log(error.message) }';
  expect(await told(code)).toBe(
    'no kernel is part of qcow2/slim: compile qcow2/qcow2.wasm and give it to init() first',
  );
  const js = code.replace('createKernel()', "createKernel({ backend: 'js' })");
  expect(await told(js)).toContain('give it to init() first');
});

test('qcow2/slim has everything the package for browsers has, with a module', async () => {
  const code = `
    import { readFileSync } from 'node:fs';
    qcow2.init(new WebAssembly.Module(readFileSync('dist/qcow2.wasm')));
    const target = new qcow2.MemoryStorage();
    await qcow2.create(target, { format: 'qcow2', size: 1 << 20 });
    const image = await qcow2.Image.open(target, { writable: true });
    await image.write(5, Uint8Array.of(7));
    const read = new Uint8Array(2);
    await image.read(4, read);
    console.log(read.join(), image.kernel.backend, Object.keys(qcow2).sort().join());`;
  const names = readFileSync(`${root}/test/api/index.api.txt`, 'utf8')
    .trim()
    .split('\n')
    .flatMap((line) => (/^(class|const|function) /.test(line) ? line.split(' ')[1] : []));
  expect(await told(code)).toBe(`0,7 wasm-simd ${names.sort().join()}`);
});
