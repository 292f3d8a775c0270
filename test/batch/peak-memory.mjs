// Converts all inputs and prints the summary's counts, its failures and the peak resident memory in MiB.
const [runner, jobs, options, directory, ...inputs] = process.argv.slice(2);
const { runBatch } = await import(runner);
const { jobsFromInputs } = await import(jobs);
const { verify, checksum, ...rest } = JSON.parse(options);
const common = { directory, targetFormat: 'raw', verify, checksum };
const { succeeded, failed, results } = await runBatch(jobsFromInputs(inputs, common), rest);
const failures = results.filter(({ event }) => event === 'job-failed');
const peak = Math.round(process.resourceUsage().maxRSS / 1024);
console.log(JSON.stringify({ succeeded, failed, failures, peak }));
