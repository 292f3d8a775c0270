// Whole processes: ours and qemu-img in turn, in the same round, on the same images.
import { prepareImages, prepareThird, prepareWeb } from '../data.mjs';
import { BATCH, CASES, URL_CASES, wholeDisk } from './cases.mjs';
import { batchContenders, contendersOf, urlContenders } from './contenders.mjs';
import { measureRow } from './rounds.mjs';
import { startWebServer } from './web-server.mjs';

/** Rows of which a run takes less than a second have so many times the rounds. */
const SHORT_FACTOR = 2;

/**
 * @param {object} options
 * @param {(name: string) => boolean} options.wants
 * @param {number} options.rounds
 * @param {boolean} options.isWhole rows on a third of the disk take all of it
 * @param {(text: string) => void} options.log
 */
export async function runImageBenches({ wants, rounds, isWhole, log }) {
  const wanted = [...CASES, BATCH].filter(({ name }) => wants(name));
  const urls = URL_CASES.filter(({ name }) => wants(name));
  if (wanted.length + urls.length === 0) return [];
  prepareImages(log);
  prepareThird(log);
  const results = [];
  for (const item of wanted.map((one) => (isWhole ? wholeDisk(one) : one))) {
    const contenders = item === BATCH ? batchContenders(BATCH) : contendersOf(item, log);
    const row = await measureRow(item, contenders, item.isShort ? rounds * SHORT_FACTOR : rounds);
    log(`  ${row.name}: ${words(row)}`);
    results.push(row);
  }
  if (urls.length > 0) prepareWeb(log);
  const server = urls.length > 0 ? await startWebServer(log) : undefined;
  for (const item of server ? urls : []) {
    const row = await measureRow(item, urlContenders(item, server), rounds);
    log(`  ${row.name}: ${words(row)}`);
    results.push(row);
  }
  await server?.close();
  return results;
}

function words({ ratios, repeated, noisy }) {
  const list = Object.entries(ratios).map(([key, { median }]) => `${median.toFixed(2)} of ${key}`);
  if (repeated > 0) list.push(`${repeated} rounds made again because others used the machine`);
  if (noisy > 0) list.push(`${noisy} noisy rounds kept`);
  return list.join(', ');
}
