import { hex } from '../../src/errors.ts';
import { code, h, note, table } from '../dom.ts';
import type { Partition } from '../model/partitions.ts';
import { sizeText } from '../model/sizes.ts';
import type { Session, View } from './session.ts';

/** The partition table, as a bar and as a list; each entry leads to its place. */
export const showPartitions: View = async (panel, session) => {
  const { kind, partitions, notes } = await session.partitions;
  if (kind === 'none') {
    panel.replaceChildren(note('The disk has no partition table of the kinds MBR or GPT.'));
    return;
  }
  const rows = partitions.map((partition) => [
    String(partition.number),
    placeButton(partition, session),
    partition.type,
    code(hex(partition.start)),
    sizeText(partition.length),
  ]);
  panel.replaceChildren(
    h('h3', {}, kind),
    table('Partitions', ['Number', 'Name', 'Type', 'Start', 'Size'], rows),
    ...notes.map((text) => h('p', { class: 'warning' }, text)),
  );
};

function placeButton({ number, name, start }: Partition, session: Session): HTMLElement {
  const show = () => session.goTo({ in: 'disk', offset: start });
  const text = name === '' ? `Partition ${number}` : name;
  const properties = { type: 'button', class: 'link', onclick: show };
  return h(
    'button',
    start < session.opened.virtualSize ? properties : { ...properties, disabled: true },
    text,
  );
}

/** Partitions beside each other; of more there is only the list. */
const MAX_PARTS = 12;

/** Where on the disk its partitions are: for below the map. Nothing if there are none, or too many. */
export async function partitionBar(session: Session): Promise<HTMLElement[]> {
  const diskSize = session.opened.virtualSize;
  const { partitions } = await session.partitions;
  const shown = partitions
    .filter(({ isContainer, start }) => !isContainer && start < diskSize)
    .sort((a, b) => a.start - b.start);
  if (shown.length > MAX_PARTS) return [];
  let end = 0;
  const parts = shown.flatMap((partition) => {
    const { number, name, type, start, length } = partition;
    const gap = h('span', {});
    gap.style.flexGrow = String(Math.max(0, start - end) / diskSize);
    end = Math.max(end, Math.min(diskSize, start + length));
    const label = `${number} ${name || type}`;
    const show = () => session.goTo({ in: 'disk', offset: start });
    const title = `${label}, ${sizeText(length)}`;
    const part = h('button', { type: 'button', title, onclick: show }, label);
    part.style.flexGrow = String(Math.min(length, diskSize - start) / diskSize);
    return [gap, part];
  });
  const rest = h('span', {});
  rest.style.flexGrow = String((diskSize - end) / diskSize);
  return parts.length === 0 ? [] : [...parts, rest];
}
