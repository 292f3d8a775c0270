// Converts all inputs and prints the summary's counts and the peak resident memory in MiB.
const [runner, jobs, directory, concurrency, ...inputs] = process.argv.slice(2);
const { runBatch } = await import(runner);
const { jobsFromInputs } = await import(jobs);
const { succeeded, failed } = await runBatch(
  jobsFromInputs(inputs, { directory, targetFormat: 'raw' }),
  { concurrency: Number(concurrency) },
);
const peak = Math.round(process.resourceUsage().maxRSS / 1024);
console.log(JSON.stringify({ succeeded, failed, peak }));
