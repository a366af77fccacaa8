// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Fqdn
/// @notice Domain names in the one form that has a key: lower case, A-labels, no dot at the end. Only [a-z0-9._-] is
/// left then, so that two names that look alike are the same name.
library Fqdn {
    /// @dev The name is not in that form; `index` is the byte where it fails, or the length of the name.
    error BadFqdn(uint256 index);

    uint256 private constant _MAX_NAME = 253;
    uint256 private constant _MAX_LABEL = 63;
    uint256 private constant _MIN_LABELS = 2;

    /// @notice The key of a name, and whether it is a wildcard. Reverts when it is in another form:
    /// 1 to 63 of [a-z0-9_-] in a label, no hyphen at its start or end, "--" as third and fourth of a label only behind
    /// "xn", at most 253 in all, at least two labels, a letter first in the last label. A wildcard has "*." before such a
    /// name and no underscore.
    function keyOf(string calldata fqdn) internal pure returns (bytes32 key, bool wildcard) {
        bytes calldata name = bytes(fqdn);
        uint256 n = name.length;
        if (n == 0 || n > _MAX_NAME) revert BadFqdn(n);
        wildcard = name[0] == "*";
        uint256 i;
        if (wildcard) {
            if (n < 2 || name[1] != ".") revert BadFqdn(1);
            i = 2;
        }
        uint256 labels;
        uint256 start = i;
        unchecked {
            // Each step ends at a dot or at the end.
            for (; i <= n; ++i) {
                bytes1 c = i == n ? bytes1(".") : name[i];
                if (c == ".") {
                    if (i == start || i - start > _MAX_LABEL || name[i - 1] == "-") revert BadFqdn(i);
                    ++labels;
                    if (i < n) start = i + 1;
                } else if (c == "-") {
                    if (i == start || _isReserved(name, start, i)) revert BadFqdn(i);
                } else if (!_isLetter(c) && (c < "0" || c > "9") && (c != "_" || wildcard)) {
                    revert BadFqdn(i);
                }
            }
        }
        if (labels < _MIN_LABELS) revert BadFqdn(n);
        // Four numbers are an address, not a name.
        if (!_isLetter(name[start])) revert BadFqdn(start);
        key = keccak256(name);
    }

    /// @dev Whether the hyphen at `i` is the second of "--" as third and fourth, which only A-labels have.
    function _isReserved(bytes calldata name, uint256 start, uint256 i) private pure returns (bool) {
        return i == start + 3 && name[i - 1] == "-" && (name[start] != "x" || name[start + 1] != "n");
    }

    function _isLetter(bytes1 c) private pure returns (bool) {
        return c >= "a" && c <= "z";
    }
}
