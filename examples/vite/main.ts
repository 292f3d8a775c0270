// A page that Vite builds: no settings are needed.
import { Image, info, isQcow2Error, map } from 'qcow2';

const input = document.querySelector<HTMLInputElement>('#file');
const facts = document.querySelector<HTMLElement>('#facts');

input?.addEventListener('change', async () => {
  const [file] = input.files ?? [];
  if (file === undefined || facts === null) return;
  try {
    const image = await Image.open(file);
    const { format, virtualSize, clusterSize = 0 } = await info(image);
    let stored = 0;
    for await (const { data, length } of map(image)) if (data) stored += length;
    facts.textContent = `${format}, ${virtualSize} bytes in clusters of ${clusterSize}, ${stored} stored`;
    await image.close();
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    facts.textContent = error.message;
  }
});
