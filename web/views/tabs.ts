import { byId } from '../dom.ts';

/** Tabs as a keyboard and a screen reader expect them: one of them is in the tab order, arrows go on. */
export class Tabs {
  readonly #tabs: readonly HTMLElement[];
  readonly #onShow: (name: string) => void;

  /** @param onShow told the name of the tab that is shown */
  constructor(list: HTMLElement, onShow: (name: string) => void) {
    this.#tabs = [...list.querySelectorAll<HTMLElement>('[role=tab]')];
    this.#onShow = onShow;
    for (const tab of this.#tabs) tab.addEventListener('click', () => this.show(nameOf(tab)));
    list.addEventListener('keydown', (event) => this.#key(event));
  }

  /** The tab that is shown. */
  get current(): string {
    const shown = this.#tabs.find((tab) => tab.getAttribute('aria-selected') === 'true');
    return nameOf(shown ?? this.#tabs[0]!);
  }

  show(name: string): void {
    for (const tab of this.#tabs) {
      const isShown = nameOf(tab) === name;
      tab.setAttribute('aria-selected', String(isShown));
      tab.tabIndex = isShown ? 0 : -1;
      byId(`panel-${nameOf(tab)}`).hidden = !isShown;
    }
    this.#onShow(name);
  }

  #key(event: KeyboardEvent): void {
    const at = this.#tabs.indexOf(document.activeElement as HTMLElement);
    const count = this.#tabs.length;
    const targets: Readonly<Record<string, number>> = {
      ArrowRight: (at + 1) % count,
      ArrowLeft: (at + count - 1) % count,
      Home: 0,
      End: count - 1,
    };
    const target = targets[event.key];
    if (at < 0 || target === undefined) return;
    event.preventDefault();
    this.#tabs[target]?.focus();
    this.show(nameOf(this.#tabs[target]!));
  }
}

function nameOf(tab: HTMLElement): string {
  return tab.id.replace('tab-', '');
}
