package snowflake

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"

	"coho/models"
)

// ParsePrivateKey reads an RSA key in PEM form, as `openssl genrsa | openssl
// pkcs8 -topk8` writes it, with a passphrase where it is encrypted ("" for
// none).
func ParsePrivateKey(text, passphrase models.Secret) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text.Reveal()))
	if block == nil {
		return nil, errors.New("the private key is not in PEM form")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		if passphrase == "" {
			return nil, errors.New("the private key is encrypted and no passphrase is given")
		}
		if key, err = pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(passphrase.Reveal())); err != nil {
			return nil, errors.New("the private key cannot be decrypted: is the passphrase right?")
		}
	default:
		return nil, fmt.Errorf("the private key is a %q, not a \"PRIVATE KEY\"", block.Type)
	}
	if err != nil {
		return nil, errors.New("the private key cannot be read: is the file whole?") // the reason might quote the key
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is not an RSA key")
	}
	return rsaKey, nil
}
