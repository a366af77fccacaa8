package message

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// FormatTime writes a time as Unix seconds with at most six decimals, the form
// of times in envelopes.
func FormatTime(t time.Time) string { return decimal(t.Truncate(time.Microsecond)) }

// decimal writes a time as Unix seconds with at most nine decimals.
func decimal(t time.Time) string {
	const digits = 9
	s := strconv.FormatInt(t.Unix(), 10)
	ns := t.Nanosecond()
	if ns == 0 {
		return s
	}
	fraction := strconv.Itoa(ns)
	fraction = strings.Repeat("0", digits-len(fraction)) + fraction
	return s + "." + strings.TrimRight(fraction, "0")
}

// asSeconds is the float64 nearest to a time.
func asSeconds(t time.Time) float64 {
	f, _ := strconv.ParseFloat(decimal(t), 64) // decimal writes a number
	return f
}

// fromSeconds is the time nearest to a number of Unix seconds, halves to even
// as the reference rounds.
func fromSeconds(f float64, unit time.Duration) time.Time {
	whole, fraction := math.Modf(f)
	units := math.RoundToEven(fraction * float64(time.Second/unit))
	return time.Unix(int64(whole), int64(units)*int64(unit)).UTC()
}
