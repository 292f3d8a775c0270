import { hex } from '../../src/errors.ts';
import { code, h, note, table } from '../dom.ts';
import type { Partition } from '../model/partitions.ts';
import { sizeText } from '../model/sizes.ts';
import type { Session, View } from './session.ts';

/** The partition table, as a bar and as a list; each entry leads to its place. */
export const showPartitions: View = async (panel, session) => {
  const { kind, partitions, notes } = await session.client.ask('partitions');
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
    partitionBar(partitions, session.opened.virtualSize),
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

/** Where on the disk partitions are; what it says is in the table below it, too. */
function partitionBar(partitions: readonly Partition[], diskSize: number): HTMLElement {
  const parts = partitions
    .filter(({ isContainer, start }) => !isContainer && start < diskSize)
    .map(({ number, start, length }) => {
      const part = h('span', {}, String(number));
      part.style.left = `${(start / diskSize) * 100}%`;
      part.style.width = `${(Math.min(length, diskSize - start) / diskSize) * 100}%`;
      return part;
    });
  return h('div', { class: 'partition-bar', 'aria-hidden': 'true' }, ...parts);
}
