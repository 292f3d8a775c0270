import { printable } from '../src/errors.ts';
import { countText } from './model/sizes.ts';

type Child = Node | string | null | undefined;
type Properties = Readonly<
  Record<string, string | number | boolean | undefined | ((event: Event) => void)>
>;

/** Rows of a table; an image can name more than a page can hold. */
const MAX_ROWS = 1000;

/** An element with attributes (those that begin with `on` are listeners) and children. Names come from images: their text is made printable. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  decorate(element, properties, children);
  return element;
}

/** The same for SVG. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: readonly Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  decorate(element, properties, children);
  return element;
}

function decorate(element: Element, properties: Properties, children: readonly Child[]): void {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  for (const child of children)
    if (child != null) element.append(typeof child === 'string' ? printable(child) : child);
}

/** The element of the page with this id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element '${id}'`);
  return element as T;
}

/** A table with a caption for those who do not see it, in a frame that scrolls by itself. */
export function table(
  caption: string,
  headings: readonly string[],
  rows: readonly (readonly (Node | string)[])[],
): HTMLElement {
  const cells = (row: readonly (Node | string)[]) =>
    row.map((cell, i) => (i === 0 ? h('th', { scope: 'row' }, cell) : h('td', {}, cell)));
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ...headings.map((text) => h('th', { scope: 'col' }, text)))),
      h('tbody', {}, ...rows.slice(0, MAX_ROWS).map((row) => h('tr', {}, ...cells(row)))),
    ),
    rows.length > MAX_ROWS ? note(`and ${countText(rows.length - MAX_ROWS)} more`) : null,
  );
}

/** Names and values. */
export function facts(
  rows: readonly (readonly [string, Node | string | undefined])[],
): HTMLElement {
  const shown = rows.filter(([, value]) => value !== undefined && value !== '');
  return h(
    'dl',
    { class: 'facts' },
    ...shown.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))),
  );
}

/** A line that says what went wrong, read out at once. */
export function alertLine(text: string): HTMLElement {
  return h('p', { class: 'error', role: 'alert' }, text);
}

/** A line of explanation. */
export function note(text: string): HTMLElement {
  return h('p', { class: 'note' }, text);
}

/** A place in hexadecimal. */
export function code(text: string): HTMLElement {
  return h('code', {}, text);
}
