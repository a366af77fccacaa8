package firecracker_test

import (
	"os"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/firecracker/firecrackertest"
)

func TestMain(m *testing.M) {
	if code, played := firecrackertest.Main(); played {
		os.Exit(code)
	}
	os.Exit(m.Run())
}
