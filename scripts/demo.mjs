// `npm run demo [-- images...]`: set-up, then a batch of conversions to raw on all cores.
import { build, installDependencies, setUp } from './setup.mjs';

if (setUp(installDependencies, build)) {
  const { convertImages, convertSamples } = await import('./demo/demo.mjs');
  const images = process.argv.slice(2);
  try {
    const succeeded = images.length > 0 ? await convertImages(images) : await convertSamples();
    process.exitCode = succeeded ? 0 : 1;
  } catch (error) {
    console.error(`demo: ${error.message}`);
    process.exitCode = 1;
  }
} else {
  process.exitCode = 1;
}
