package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func imageCommand(a *app) *cobra.Command {
	return newGroup("image", "Upload images to run", imageUpload(a))
}

// uploaded is the result of image upload.
type uploaded struct {
	ItemHash message.ItemHash `json:"item_hash"` // of the STORE message: what --image takes
	FileHash message.ItemHash `json:"file_hash"`
	Size     int64            `json:"size"` // bytes
	Name     string           `json:"name"`
}

func imageUpload(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "upload FILE", Short: "Upload an image and publish it", Args: args(cobra.ExactArgs(1)),
		Long: "Upload an image (a disk in qcow2 or raw form, or an aleph image) and publish the message that names\nit. The hash that is printed is what 'aleph instance create --image' takes.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				name = filepath.Base(args[0])
			}
			out, err := a.upload(cmd.Context(), args[0], name)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, out.ItemHash) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the image, the file's unless set")
	return cmd
}

func (a *app) upload(ctx context.Context, path, name string) (*uploaded, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return nil, fmt.Errorf("image %s is not a file with bytes in it", path)
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	account, err := a.unlock()
	if err != nil {
		return nil, err
	}
	a.say("Hashing %s.", path)
	blob, err := c.Upload(ctx, f, progress(a.err))
	if err != nil {
		return nil, err
	}
	e, err := account.SignStore(*blob, map[string]string{"name": name}, time.Now())
	if err != nil {
		return nil, err
	}
	accepted, err := c.PublishMessage(ctx, e)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	if _, err := c.WaitMessage(ctx, accepted.ItemHash); err != nil {
		return nil, err
	}
	return &uploaded{ItemHash: accepted.ItemHash, FileHash: blob.Hash, Size: blob.Size, Name: name}, nil
}

// progress tells how far an upload is, at each tenth.
func progress(w io.Writer) func(sent, total int64) {
	told := int64(0)
	return func(sent, total int64) {
		if total <= 0 {
			return
		}
		if tenth := sent * 10 / total; tenth > told {
			told = tenth
			fmt.Fprintf(w, "Uploaded %d %% of %s.\n", tenth*10, size(total))
		}
	}
}

// size writes bytes for people.
func size(bytes int64) string {
	const mib = 1 << 20
	if bytes < mib {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/mib)
}
