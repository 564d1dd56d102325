/** What was offered as ghost text, and what of it is in the document by now. */

export interface Offer {
  uri: string;
  /** Where the text begins, in UTF-16 units of the document. */
  offset: number;
  /** Its lines end in LF. */
  text: string;
  /** What the server gets back to know it by. */
  item: { insertText: string; command: { command: string; arguments?: unknown[] } };
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

/** How much of an offer was inserted where it begins; 0 if something else was. */
export function acceptedUnits(offer: Offer, inserted: string): number {
  return offer.text.startsWith(inserted) ? inserted.length : 0;
}

/** Whether all of an offer was inserted where it begins. */
export function isWhole(offer: Offer, inserted: string): boolean {
  return inserted !== '' && offer.text === inserted;
}
