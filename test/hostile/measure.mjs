// Runs command lines in a process of its own and prints for each, as a line of JSON, its exit status,
// what it said on standard error, how much it printed, its processor time and what it added to the
// process's largest memory. Standard input has a command line, as a list in JSON, in each line.
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createViteServer } from 'vitest/node';

const vite = await createViteServer({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  configFile: false,
  logLevel: 'error',
  appType: 'custom',
  optimizeDeps: { noDiscovery: true },
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
});
const { runCommandLine } = await vite.ssrLoadModule('/src/cli/run.ts');

async function measure(argv) {
  let printed = 0;
  let said = '';
  const context = {
    write: (part) => {
      printed += part.length;
    },
    writeError: (part) => {
      said += part;
    },
    drained: () => Promise.resolve(),
    interruptible: () => new AbortController().signal,
    onProgressRequest: () => () => {},
  };
  const memory = process.resourceUsage().maxRSS;
  const before = process.cpuUsage();
  const status = await runCommandLine(argv, context);
  const { user, system } = process.cpuUsage(before);
  const kibibytes = process.resourceUsage().maxRSS - memory;
  return { status, said, printed, seconds: (user + system) / 1e6, kibibytes };
}

// Commands load their modules when they are first used, which is not what is measured.
for (const verb of ['info', 'map', 'convert']) await measure([verb, '/nothing', '/nothing']);
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await measure(JSON.parse(line))));
}
await vite.close();
