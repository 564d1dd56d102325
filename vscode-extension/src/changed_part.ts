/** The part in which two texts differ. */

export interface ChangedPart {
  /** Units both texts begin with, and units both end with after those. */
  head: number;
  tail: number;
}

export function changedPart(before: string, after: string): ChangedPart {
  const shortest = Math.min(before.length, after.length);
  let head = 0;
  while (head < shortest && before[head] === after[head]) {
    head += 1;
  }
  let tail = 0;
  while (tail < shortest - head && before.at(-1 - tail) === after.at(-1 - tail)) {
    tail += 1;
  }
  return { head, tail };
}

/** A text as one line that an editor's decoration shows as it is. */
export function asOneLine(text: string): string {
  return text
    .replace(/\r\n|\r|\n/g, ' ⏎ ')
    .replaceAll('\t', '  ')
    .replaceAll(' ', '\u00a0');
}
