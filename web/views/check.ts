import { byId, h, note } from '../dom.ts';
import type { PlacedCheck, PlacedFinding } from '../model/findings.ts';
import { plural, shareText } from '../model/sizes.ts';
import type { Session, View } from './session.ts';

/** Checks the image, without changing it; each finding leads to its place. */
export const showCheck: View = async (panel, session) => {
  if (session.opened.format === 'raw') {
    panel.replaceChildren(note('A raw image has nothing to check.'));
    return;
  }
  const progress = h('progress', { 'aria-label': 'Check', max: 1, value: 0 });
  panel.replaceChildren(progress);
  const result = await session.client.ask('check', undefined, (done, total) => {
    progress.max = total;
    progress.value = done;
  });
  const { findings, findingsOmitted } = result;
  byId('spoken').textContent = verdict(result);
  panel.replaceChildren(
    h('p', { class: findings.length > 0 ? 'verdict bad' : 'verdict good' }, verdict(result)),
    note(statisticsText(result)),
    ...(findings.length > 0 ? [list(findings, session)] : []),
    ...(findingsOmitted > 0
      ? [note(`${plural(findingsOmitted, 'more finding')} not listed.`)]
      : []),
    note('Nothing was changed: the check only reads.'),
  );
};

function verdict({ corruptions, leaks, checkErrors, refusals }: PlacedCheck): string {
  const parts = [
    corruptions > 0 ? plural(corruptions, 'error') : '',
    leaks > 0 ? plural(leaks, 'leaked cluster') : '',
    refusals > 0 ? plural(refusals, 'unreadable entry', 'unreadable entries') : '',
    checkErrors > 0
      ? plural(checkErrors, 'thing that could not be checked', 'things that could not be checked')
      : '',
  ].filter((text) => text !== '');
  return parts.length === 0 ? 'No errors were found on the image.' : `Found: ${parts.join(', ')}.`;
}

function statisticsText(result: PlacedCheck): string {
  const { allocatedClusters: used, totalClusters: all, fragmentedClusters: split } = result;
  const share = shareText(used, all);
  return (
    `${plural(used, 'cluster')} of ${all.toLocaleString('en-GB')} allocated (${share}), ` +
    `${shareText(split, used)} of them fragmented, ${shareText(result.compressedClusters, used)} compressed.`
  );
}

function list(findings: readonly PlacedFinding[], session: Session): HTMLElement {
  const frame = { class: 'findings', tabindex: 0, 'aria-label': 'Findings' };
  return h(
    'ul',
    frame,
    ...findings.map((finding) => {
      const { guest, offset, message, structure } = finding;
      const show = () =>
        session.goTo(guest === undefined ? { in: 'file', offset } : { in: 'disk', offset: guest });
      return h(
        'li',
        {},
        h('span', { class: `class ${finding.class}` }, finding.class),
        h('button', { type: 'button', class: 'link', title: structure, onclick: show }, message),
      );
    }),
  );
}
