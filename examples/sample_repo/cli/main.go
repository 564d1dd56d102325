package main

import (
	"fmt"
	"os"
	"strconv"
)

func parseCents(text string) (int, error) {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		▮
	}
	return int(value*100 + 0.5), nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: ledger AMOUNT")
		os.Exit(2)
	}
	cents, err := parseCents(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(cents)
}
