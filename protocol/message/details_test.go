package message_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestDetailsOfVerdicts(t *testing.T) {
	const a, b = message.ItemHash("aa"), message.ItemHash("bb")
	tests := []struct {
		err  error
		code message.Code
		want string
	}{
		{message.Reject(message.CodeInvalidFormat, "x \"y\""), 0, `{"errors":["x \"y\""]}`},
		{message.RejectSender("0xS", "0xO"), 2, `{"errors":["Sender 0xS is not authorized to post on behalf of address 0xO"]}`},
		{message.RejectForgetter("0xS", a, "0xO"), 2, `{"errors":["Sender 0xS is not authorized to forget message aa owned by 0xO: ` +
			`the sender could not have created this target under the owner's security aggregate"]}`},
		{message.RejectFile(message.CodeContentUnavailable, a, ""), 3, `{"errors":["File not found: aa"]}`},
		{message.RejectFile(message.CodeFileUnavailable, a, "timeout"), 4, `{"errors":["File not found: aa (timeout)"]}`},
		{message.RejectBalance("2.5", "1"), 5, `{"errors":[{"required_balance":"2.5","account_balance":"1"}]}`},
		{message.RejectCredits("2.5", "1"), 6, `{"errors":[{"required_credits":"2.5","account_credits":"1","min_runtime_days":1}]}`},
		{message.RejectVolumes([]message.ItemHash{a, b}), 301, `{"errors":["aa","bb"]}`},
		{
			message.RejectSmallVolume(message.SmallVolume{Name: "n", Ref: a, File: b, FileBytes: 2, VolumeBytes: 1}), 304,
			`{"errors":[{"volume_name":"n","parent_ref":"aa","parent_file":"bb","parent_size":2,"volume_size":1}]}`,
		},
		{(&message.Forget{}).CheckTargets(), 500, `null`},
		{message.RejectForgetTarget(a), 501, `{"errors":[{"message":"aa"}]}`},
		{message.RejectForgetAggregate("k"), 501, `{"errors":[{"aggregate":"k"}]}`},
		{message.RejectForgetForget(a), 502, `{"errors":[{"message":"aa"}]}`},
		{message.RejectUsedFile(a, b), 503, `{"errors":["File aa used on vm bb"]}`},
	}
	for _, tt := range tests {
		var rejected *message.RejectError
		if !errors.As(tt.err, &rejected) {
			t.Fatalf("%v is no verdict", tt.err)
		}
		if got := string(rejected.Details()); got != tt.want || rejected.Code != tt.code {
			t.Errorf("code %d, details %s; want %d, %s", rejected.Code, got, tt.code, tt.want)
		}
	}
}

func TestCodesHaveTheNamesOfTheProtocol(t *testing.T) {
	type codeCase struct {
		Code  message.Code
		Name  string
		Class string
		Retry bool
	}
	for _, tt := range readVectors[codeCase](t, "codes.json") {
		if tt.Code.Name() != tt.Name || tt.Code.Class() != tt.Class || tt.Code.Retriable() != tt.Retry {
			t.Errorf("code %d is %s, %s, retry %v; want %s, %s, %v",
				tt.Code, tt.Code.Name(), tt.Code.Class(), tt.Code.Retriable(), tt.Name, tt.Class, tt.Retry)
		}
	}
	if got := message.Code(7); got.Name() != "" || got.Class() != "" {
		t.Errorf("an unknown code is %s, %s", got.Name(), got.Class())
	}
	if got := (&message.RejectError{Code: message.CodeForgetNoTarget}).Error(); !strings.HasSuffix(got, "(code 500)") {
		t.Errorf("a verdict without detail reads %q", got)
	}
}
