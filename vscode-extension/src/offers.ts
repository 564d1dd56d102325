/** What was offered as ghost text, and what of it is in the document by now. */

export interface Offer {
  uri: string;
  /** Where the text begins, in UTF-16 units of the document. */
  offset: number;
  text: string;
  /** What the server gets back to know it by. */
  item: object;
}

/** Whether an offer is what is left of the one before, of which the user typed a part. */
export function isContinuation(before: Offer | undefined, now: Offer, typed: string): boolean {
  return (
    before !== undefined &&
    before.uri === now.uri &&
    before.offset <= now.offset &&
    before.text === typed + now.text
  );
}

/** How much of an offer was inserted before the cursor; 0 if something else was. */
export function acceptedUnits(offer: Offer, cursor: number, inserted: string): number {
  const isPart = cursor > offer.offset && offer.text.startsWith(inserted);
  return isPart ? inserted.length : 0;
}
