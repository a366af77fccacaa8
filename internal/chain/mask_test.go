package chain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func TestErrorsDoNotTellKeysInURLs(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://rpc.example/v2/SECRET":            `"ftp://rpc.example/***"`,
		"rpc.example/v2/SECRET":                  `"***"`,
		"user:SECRET@rpc.example":                `"***"`,
		"https://%zz:SECRET@rpc.example":         `"***"`,
		"http://good.example,htps://u:SECRET@h/": `"htps://h/***"`,
	} {
		cfg := chain.DefaultConfig()
		cfg.RPCURL = url
		if err := cfg.Validate(); !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want invalid and %s", url, err, want)
		}
	}
	for _, url := range []string{"ws://127.0.0.1:1/SECRET", "wss://user:SECRET@127.0.0.1:1", "http://%zz:SECRET@x"} {
		if _, err := chain.Dial(t.Context(), chain.Config{RPCURL: url, ChainID: 1}, quiet); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("dial %s: %v, want an error without the key", url, err)
		}
	}
}
