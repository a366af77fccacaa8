package executor

import "testing"

func TestMemTotal(t *testing.T) {
	tests := []struct {
		text string
		want int64
		ok   bool
	}{
		{"MemTotal:       16384000 kB\nMemFree: 1 kB\n", 16000, true},
		{"MemFree: 1 kB\nMemTotal: 1024 kB\n", 1, true},
		{"MemTotal: many kB\n", 0, false},
		{"MemTotal: 1024 MB\n", 0, false},
		{"", 0, false},
	}
	for _, tt := range tests {
		got, err := memTotalMiB([]byte(tt.text))
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("memTotalMiB(%q) is %d, %v; want %d, ok %v", tt.text, got, err, tt.want, tt.ok)
		}
	}
}

func FuzzMemTotal(f *testing.F) {
	f.Add([]byte("MemTotal:       16384000 kB\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := memTotalMiB(text); n < 0 || err != nil && n != 0 {
			t.Errorf("memTotalMiB(%q) is %d, %v", text, n, err)
		}
	})
}
