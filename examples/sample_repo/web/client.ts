export interface Transaction {
  day: string;
  source: string;
  target: string;
  cents: number;
}

export async function fetchTransactions(baseUrl: string): Promise<Transaction[]> {
  const response = await fetch(`${baseUrl}/transactions`);
  if (!response.ok) {
    throw new Error(`server answered ${response.status}`);
  }
  return response.json();
}

export function totalOf(transactions: Transaction[]): number {
  return transactions.▮
}
