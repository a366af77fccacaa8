// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDrandVerifier} from "./interfaces/IDrandVerifier.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";

/// @title DrandVerifier
/// @notice See {IDrandVerifier}. It has no state and no owner; another network is another deployment.
/// @dev Written after RFC 9380 (hash to curve: expand_message_xmd with Keccak-256, the map of Shallue and van de
/// Woestijne, suite BN254G1_XMD:KECCAK-256_SVDW_RO) and EIPs 196, 197 and 198 (the precompiles).
contract DrandVerifier is IDrandVerifier {
    /* CONSTANTS */

    /// @dev The field: the curve is y^2 = x^3 + 3 over the integers modulo P. P is 3 modulo 4, so a root of a is
    /// a^((P+1)/4) when there is one.
    uint256 private constant _P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;
    uint256 private constant _ROOT_EXPONENT = 0xc19139cb84c680a6e14116da060561765e05aa45a1c72a34f082305b61f3f52;
    uint256 private constant _INVERSE_EXPONENT = _P - 2;

    /// @dev The map's constants for Z = 1: g(Z), -Z/2, sqrt(-3*g(Z)*Z^2) with an even value, -4*g(Z)/(3*Z^2).
    uint256 private constant _Z = 1;
    uint256 private constant _C1 = 4;
    uint256 private constant _C2 = 0x183227397098d014dc2822db40c0ac2ecbc0b548b438e5469e10460b6c3e7ea3;
    uint256 private constant _C3 = 0x16789af3a83522eb353c98fc6b36d713d5d8d1cc5dffffffa;
    uint256 private constant _C4 = 0x10216f7ba065e00de81ac1e7808072c9dd2b2385cd7b438469602eb24829a9bd;

    /// @dev The generator of G2, negated, as the pairing precompile takes it: imaginary parts first.
    uint256 private constant _G2_X1 = 0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2;
    uint256 private constant _G2_X0 = 0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed;
    uint256 private constant _G2_NEG_Y1 = 0x275dc4a288d1afb3cbb1ac09187524c7db36395df7be3b99e673b13a075a65ec;
    uint256 private constant _G2_NEG_Y0 = 0x1d9befcd05a5323e6da4d435f3b617cdb3af83285c2df711ef39c01571827f9d;

    /// @dev What the pairing precompile gets: two pairs cost 113,000. It burns all of it when it refuses a point, which
    /// must not be all that the caller has.
    uint256 private constant _PAIRING_GAS = 250_000;

    /// @dev The domain separation tag, followed by its length.
    bytes private constant _DST = "BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_\x2b";

    uint256 private immutable _KEY_X1;
    uint256 private immutable _KEY_X0;
    uint256 private immutable _KEY_Y1;
    uint256 private immutable _KEY_Y0;
    uint64 private immutable _GENESIS;
    uint64 private immutable _PERIOD;

    /* SETUP */

    /// @param key The network's public key: x and y, of each the imaginary part first.
    /// @param genesis The time of round 1.
    /// @param period The seconds between rounds.
    constructor(uint256[4] memory key, uint64 genesis, uint64 period) {
        if (key[0] | key[1] | key[2] | key[3] == 0) revert AlephErrors.ZeroHash();
        if (period == 0) revert AlephErrors.ZeroAmount();
        (_KEY_X1, _KEY_X0, _KEY_Y1, _KEY_Y0) = (key[0], key[1], key[2], key[3]);
        (_GENESIS, _PERIOD) = (genesis, period);
    }

    /* VERIFICATION */

    /// @inheritdoc IDrandVerifier
    function verify(uint64 round, uint256[2] calldata signature) external view returns (bytes32 randomness) {
        return _verify(round, signature);
    }

    /// @inheritdoc IDrandVerifier
    function verifyAt(uint256 time, uint256[2] calldata signature)
        external
        view
        returns (uint64 round, bytes32 randomness)
    {
        round = roundAt(time);
        randomness = _verify(round, signature);
    }

    /* VIEWS */

    /// @inheritdoc IDrandVerifier
    function roundAt(uint256 time) public view returns (uint64) {
        if (time < _GENESIS) revert BeforeGenesis(time, _GENESIS);
        return uint64((time - _GENESIS + _PERIOD - 1) / _PERIOD + 1);
    }

    /// @inheritdoc IDrandVerifier
    function hashToCurve(uint64 round) external view returns (uint256 x, uint256 y) {
        return _hashToCurve(round);
    }

    /// @inheritdoc IDrandVerifier
    function network() external view returns (uint256[4] memory key, uint64 genesis, uint64 period) {
        return ([_KEY_X1, _KEY_X0, _KEY_Y1, _KEY_Y0], _GENESIS, _PERIOD);
    }

    /* INTERNAL */

    /// @dev The signature s of the point h is right when e(s, -g2) * e(h, key) is one. The precompile refuses coordinates
    /// of P and above and points off the curve, so a signature has one spelling; infinity pairs to one with -g2 and
    /// leaves e(h, key), which is not one.
    function _verify(uint64 round, uint256[2] calldata signature) private view returns (bytes32 randomness) {
        (uint256 x, uint256 y) = _hashToCurve(round);
        (uint256 x1, uint256 x0, uint256 y1, uint256 y0) = (_KEY_X1, _KEY_X0, _KEY_Y1, _KEY_Y0);
        bool ok;
        assembly ("memory-safe") {
            let m := mload(0x40)
            calldatacopy(m, signature, 0x40)
            mstore(add(m, 0x40), _G2_X1)
            mstore(add(m, 0x60), _G2_X0)
            mstore(add(m, 0x80), _G2_NEG_Y1)
            mstore(add(m, 0xa0), _G2_NEG_Y0)
            mstore(add(m, 0xc0), x)
            mstore(add(m, 0xe0), y)
            mstore(add(m, 0x100), x1)
            mstore(add(m, 0x120), x0)
            mstore(add(m, 0x140), y1)
            mstore(add(m, 0x160), y0)
            ok := staticcall(_PAIRING_GAS, 0x08, m, 0x180, 0x00, 0x20)
            ok := and(ok, and(eq(returndatasize(), 0x20), eq(mload(0x00), 1)))
        }
        if (!ok) revert BeaconInvalid(round);
        randomness = sha256(abi.encode(signature));
    }

    /// @dev RFC 9380, hash_to_curve: two field elements, each mapped to a point, and their sum. The cofactor is one.
    function _hashToCurve(uint64 round) private view returns (uint256 x, uint256 y) {
        (uint256 u0, uint256 u1) = _hashToField(round);
        (uint256 x0, uint256 y0) = _map(u0);
        (uint256 x1, uint256 y1) = _map(u1);
        bool ok;
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, x0)
            mstore(add(m, 0x20), y0)
            mstore(add(m, 0x40), x1)
            mstore(add(m, 0x60), y1)
            ok := staticcall(gas(), 0x06, m, 0x80, m, 0x40)
            x := mload(m)
            y := mload(add(m, 0x20))
        }
        // Both points are on the curve, so this fails only for want of gas.
        if (!ok) revert BeaconInvalid(round);
    }

    /// @dev RFC 9380, hash_to_field with two elements of 48 uniform bytes each, by expand_message_xmd. The block of
    /// Keccak-256 has 136 bytes. drand signs the hash of the round's number.
    function _hashToField(uint64 round) private pure returns (uint256 u0, uint256 u1) {
        bytes32 message = keccak256(abi.encodePacked(round));
        bytes32 b0 = keccak256(abi.encodePacked(new bytes(136), message, uint16(96), uint8(0), _DST));
        bytes32 b1 = keccak256(abi.encodePacked(b0, uint8(1), _DST));
        uint256 b2 = uint256(keccak256(abi.encodePacked(b0 ^ b1, uint8(2), _DST)));
        uint256 b3 = uint256(keccak256(abi.encodePacked(b0 ^ bytes32(b2), uint8(3), _DST)));
        u0 = addmod(mulmod(uint256(b1), 1 << 128, _P), b2 >> 128, _P);
        // 2^256 is 2^128 squared; b3 may be above P, which addmod allows.
        u1 = addmod(mulmod(mulmod(uint128(b2), 1 << 128, _P), 1 << 128, _P), b3, _P);
    }

    /// @dev RFC 9380, map_to_curve_svdw. One of three values of x is on the curve; the first that is counts.
    function _map(uint256 u) private view returns (uint256 x, uint256 y) {
        uint256 t = mulmod(mulmod(u, u, _P), _C1, _P);
        uint256 plus = addmod(1, t, _P);
        uint256 minus = addmod(1, _P - t, _P);
        // inv0: the inverse of zero is zero, which raising to P-2 gives, too.
        uint256 inverse = _power(mulmod(plus, minus, _P), _INVERSE_EXPONENT);
        uint256 d = mulmod(mulmod(mulmod(u, minus, _P), inverse, _P), _C3, _P);
        bool found;
        (found, x, y) = _onCurve(addmod(_C2, _P - d, _P));
        if (!found) (found, x, y) = _onCurve(addmod(_C2, d, _P));
        if (!found) {
            uint256 q = mulmod(mulmod(plus, plus, _P), inverse, _P);
            (, x, y) = _onCurve(addmod(mulmod(mulmod(q, q, _P), _C4, _P), _Z, _P));
        }
        if ((u ^ y) & 1 != 0) y = _P - y;
    }

    /// @dev A point with this x, when there is one.
    function _onCurve(uint256 x) private view returns (bool, uint256, uint256 y) {
        uint256 square = addmod(mulmod(mulmod(x, x, _P), x, _P), 3, _P);
        y = _power(square, _ROOT_EXPONENT);
        return (mulmod(y, y, _P) == square, x, y);
    }

    function _power(uint256 base, uint256 exponent) private view returns (uint256 result) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, 0x20)
            mstore(add(m, 0x20), 0x20)
            mstore(add(m, 0x40), 0x20)
            mstore(add(m, 0x60), base)
            mstore(add(m, 0x80), exponent)
            mstore(add(m, 0xa0), _P)
            // It fails only for want of gas; then nothing after it has gas, either.
            if iszero(staticcall(gas(), 0x05, m, 0xc0, 0x00, 0x20)) { revert(0, 0) }
            result := mload(0x00)
        }
    }
}
