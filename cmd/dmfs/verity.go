package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"dmfs/targets/verity"
)

// verityTableCommand is `dmfs verity-table [--hash-offset BYTES] DATA HASH ROOT`: it prints the table line of an image of veritysetup.
func verityTableCommand(args []string) int {
	const name = "dmfs verity-table"
	offset := "0"
	words, err := parseArgs(args, []flag{
		{names: "--hash-offset", take: func(v string) { offset = v }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"verity-table"})) }},
	})
	if err == nil {
		err = printVerityTable(words, offset)
	}
	if err != nil {
		complain(name, err)
		return exitFail
	}
	return exitOK
}

func printVerityTable(words []string, offsetText string) error {
	if len(words) != 3 {
		return fmt.Errorf("%d arguments: want DATA HASH ROOT, the disks and the root digest that `veritysetup format` printed", len(words))
	}
	data, hash, root := words[0], words[1], words[2]
	offset, err := strconv.ParseInt(offsetText, 10, 63)
	if err != nil || offset < 0 || offset%verity.SuperblockSize != 0 {
		return fmt.Errorf("--hash-offset %q: want bytes, a multiple of %d", offsetText, verity.SuperblockSize)
	}
	f, err := os.Open(hash)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	b := make([]byte, verity.SuperblockSize)
	if _, err := f.ReadAt(b, offset); err != nil {
		return fmt.Errorf("%s: superblock at byte %d: %w", hash, offset, err)
	}
	s, err := verity.ParseSuperblock(b)
	if errors.Is(err, verity.ErrNoSuperblock) {
		err = fmt.Errorf("%w: is it elsewhere (--hash-offset), or was the tree made with --no-superblock?", err)
	}
	if err != nil {
		return fmt.Errorf("%s: byte %d: %w", hash, offset, err)
	}
	fmt.Println(s.Spec(data, hash, offset, strings.ToLower(root)))
	return nil
}
