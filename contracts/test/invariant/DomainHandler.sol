// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDomainRegistry} from "../../src/interfaces/IDomainRegistry.sol";
import {DomainSuite} from "../utils/DomainSuite.sol";
import {QuorumSuite} from "../utils/QuorumSuite.sol";

/// @title DomainHandler
/// @notice Accounts that ask for names, DNS that changes its mind, coordinators that tell, in any order, with books of
/// their own.
contract DomainHandler is DomainSuite {
    struct Book {
        address owner;
        uint256 ends;
        uint40 seenAt;
        IDomainRegistry.TargetType targetType;
        bytes32 target;
        bytes32 spkiHash;
        bytes32 oldSpkiHash;
        address heir;
        address claimant;
        uint40 claimSeenAt;
        uint40 disputedAt;
    }

    string[3] internal names = ["example.com", "*.example.com", "www.example.org"];
    bytes32[3] public keys;
    address[4] public people;
    mapping(bytes32 key => Book) internal books;
    mapping(bytes32 key => bytes32[]) internal revoked;
    uint256 public takeovers;
    uint256 public gifts;
    uint256 public lapses;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        QuorumSuite.setUp();
        for (uint256 i; i < 3; ++i) {
            keys[i] = domains.keyOf(names[i]);
        }
        for (uint256 i; i < 4; ++i) {
            people[i] = makeAddr(string.concat("person", vm.toString(i)));
        }
    }

    /* PROOF OF CONTROL */

    function ask(uint256 who, uint256 name, uint256 target) external {
        address p = people[who % 4];
        bytes32 key = keys[name % 3];
        IDomainRegistry.TargetType t = IDomainRegistry.TargetType(target % 5);
        vm.prank(p);
        try domains.request(names[name % 3], t, t == IDomainRegistry.TargetType.None ? bytes32(0) : _hash(target)) {
            require(books[key].owner != p, "an owner asked");
        } catch {
            require(books[key].owner == p, "unexpected revert of request");
        }
    }

    /// @dev DNS names the account, as seen some time ago.
    function verify(uint256 who, uint256 name, uint256 ago) external {
        address p = people[who % 4];
        bytes32 key = keys[name % 3];
        uint40 seenAt = uint40(block.timestamp - bound(ago, 0, 26 hours));
        if (ago % 4 != 0) _askFirst(p, name % 3);
        IDomainRegistry.RequestView memory r = domains.requestOf(key, p);
        bytes memory sigs = _attest(key, p, r.nonce, seenAt, 8);
        bool may = _mayVerify(books[key], p, seenAt, r.requestedAt);
        try domains.verify(key, p, TOKEN_METHOD, seenAt, sigs) {
            require(may, "verified what must not be");
            _verified(key, p, seenAt, r);
        } catch {
            require(!may, "unexpected revert of verify");
        }
    }

    function dispute(uint256 who, uint256 name, uint256 ago) external {
        address p = people[who % 4];
        bytes32 key = keys[name % 3];
        uint40 seenAt = uint40(block.timestamp - bound(ago, 0, 26 hours));
        if (ago % 4 != 0) _askFirst(p, name % 3);
        IDomainRegistry.RequestView memory r = domains.requestOf(key, p);
        bytes memory sigs = _attest(key, p, r.nonce, seenAt, 8);
        bool may = _mayDispute(books[key], p, seenAt, r.requestedAt);
        try domains.dispute(key, p, TOKEN_METHOD, seenAt, sigs) {
            require(may, "DR-4: disputed what must not be");
            Book storage b = books[key];
            (b.claimant, b.claimSeenAt, b.disputedAt) = (p, seenAt, uint40(block.timestamp));
        } catch {
            require(!may, "unexpected revert of dispute");
        }
    }

    function settle(uint256 name) external {
        bytes32 key = keys[_busy(name)];
        Book storage b = books[key];
        bool may = b.claimant != address(0) && block.timestamp >= b.disputedAt + 72 hours;
        IDomainRegistry.RequestView memory r = domains.requestOf(key, b.claimant);
        address to = b.claimant;
        uint40 seenAt = b.claimSeenAt;
        try domains.settleDispute(key) {
            require(may, "settled too soon");
            _end(key);
            (b.owner, b.seenAt, b.targetType, b.target) = (to, seenAt, r.targetType, r.target);
            ++takeovers;
        } catch {
            require(!may, "unexpected revert of settleDispute");
        }
    }

    function lapse(uint256 name) external {
        bytes32 key = keys[name % 3];
        Book storage b = books[key];
        bool may = _isOverdue(b);
        try domains.lapse(key) {
            require(may, "lapsed too soon");
            _end(key);
            ++lapses;
        } catch {
            require(!may, "DR-2: did not lapse");
        }
    }

    function revoke(uint256 name, uint256 spki, bool whole) external {
        bytes32 key = keys[name % 3];
        Book storage b = books[key];
        bytes32 hash = whole ? bytes32(0) : _hash(spki);
        bytes memory sigs =
            _sigs(domains.revocationDigest(key, uint32(b.ends), hash, "evidence"), hex"0001020304050607");
        bool may = b.owner != address(0) && !_wasRevoked(key, hash);
        try domains.revoke(key, hash, "evidence", sigs) {
            require(may, "revoked what must not be");
            if (whole) _end(key);
            else _barred(key, hash);
        } catch {
            require(!may, "unexpected revert of revoke");
        }
    }

    /* WHAT THE OWNER SETS: one in four callers is somebody else */

    function setTarget(uint256 who, uint256 name, uint256 target) external {
        (bytes32 key, address p, bool may) = _owner(who, name);
        IDomainRegistry.TargetType t = IDomainRegistry.TargetType(1 + target % 4);
        vm.prank(p);
        try domains.setTarget(key, t, _hash(target)) {
            require(may, "DR-3: target set by another");
            (books[key].targetType, books[key].target) = (t, _hash(target));
        } catch {
            require(!may, "unexpected revert of setTarget");
        }
    }

    function setCert(uint256 who, uint256 name, uint256 spki) external {
        (bytes32 key, address p, bool may) = _owner(who, name);
        bytes32 hash = spki % 8 == 0 ? bytes32(0) : _hash(spki);
        if (_wasRevoked(key, hash)) may = false;
        vm.prank(p);
        try domains.setCert(key, hash, hash == 0 ? 0 : uint40(block.timestamp + bound(spki, 1, 400 days))) {
            require(may, "DR-3: certificate set by another");
            books[key].spkiHash = hash;
            if (books[key].oldSpkiHash != 0) books[key].oldSpkiHash = 0;
        } catch {
            require(!may, "unexpected revert of setCert");
        }
    }

    function rotateCert(uint256 who, uint256 name, uint256 spki, uint256 overlap) external {
        (bytes32 key, address p, bool may) = _owner(who, name);
        Book storage b = books[key];
        bytes32 hash = _hash(spki);
        if (_wasRevoked(key, hash) || b.spkiHash == 0 || b.spkiHash == hash) may = false;
        uint40 until = uint40(block.timestamp + bound(overlap, 1, 30 days));
        vm.prank(p);
        try domains.rotateCert(key, hash, uint40(block.timestamp + 90 days), until) {
            require(may, "DR-3: certificate rotated by another");
            (b.oldSpkiHash, b.spkiHash) = (b.spkiHash, hash);
        } catch {
            require(!may, "unexpected revert of rotateCert");
        }
    }

    function revokeCert(uint256 who, uint256 name, uint256 spki) external {
        (bytes32 key, address p, bool may) = _owner(who, name);
        bytes32 hash = _hash(spki);
        if (_wasRevoked(key, hash)) may = false;
        vm.prank(p);
        try domains.revokeCert(key, hash) {
            require(may, "DR-3: certificate revoked by another");
            _barred(key, hash);
        } catch {
            require(!may, "unexpected revert of revokeCert");
        }
    }

    function transfer(uint256 who, uint256 name, uint256 heir) external {
        (bytes32 key, address p, bool may) = _owner(who, name);
        address to = heir % 8 == 0 ? address(0) : people[heir % 4];
        if (to == p) may = false;
        vm.prank(p);
        try domains.transfer(key, to) {
            require(may, "DR-3: offered by another");
            books[key].heir = to;
        } catch {
            require(!may, "unexpected revert of transfer");
        }
    }

    function accept(uint256 who, uint256 name) external {
        bytes32 key = keys[name % 3];
        Book storage b = books[key];
        address p = who % 4 == 0 || b.heir == address(0) ? people[who % 4] : b.heir;
        bool may = b.heir == p && b.disputedAt == 0 && block.timestamp <= b.seenAt + 104 days;
        (uint40 seenAt, IDomainRegistry.TargetType t, bytes32 target) = (b.seenAt, b.targetType, b.target);
        vm.prank(p);
        try domains.accept(key) {
            require(may, "accepted what must not be");
            _end(key);
            (b.owner, b.seenAt, b.targetType, b.target) = (p, seenAt, t, target);
            ++gifts;
        } catch {
            require(!may, "unexpected revert of accept");
        }
    }

    function release(uint256 who, uint256 name) external {
        // Rarely, or there would be few owners.
        if (who % 3 != 0) return;
        bytes32 key = keys[name % 3];
        Book storage b = books[key];
        address p = who % 4 == 0 || b.owner == address(0) ? people[who % 4] : b.owner;
        bool may = b.owner == p && b.disputedAt == 0;
        vm.prank(p);
        try domains.release(key) {
            require(may, "DR-3: released by another");
            _end(key);
        } catch {
            require(!may, "unexpected revert of release");
        }
    }

    /// @dev Mostly to just before or after what ends for one of the names.
    function warp(uint256 pick, uint256 time) external {
        Book storage b = books[keys[_busy(pick)]];
        uint256 to = block.timestamp + bound(time, 1, time % 4 == 0 ? 40 days : 6 hours);
        if (b.owner != address(0) && time % 3 == 0) {
            uint256 edge = b.disputedAt != 0 ? b.disputedAt + 72 hours : b.seenAt + (time % 2 == 0 ? 104 days : 90 days);
            edge += pick % 3;
            if (edge > block.timestamp + 1) to = edge - 1;
        }
        vm.warp(to);
        nodes.snapshotCoordinators();
    }

    /* VIEWS */

    function book(bytes32 key) external view returns (Book memory) {
        return books[key];
    }

    function revokedOf(bytes32 key) external view returns (bytes32[] memory) {
        return revoked[key];
    }

    function registry() external view returns (address) {
        return address(domains);
    }

    /* INTERNAL */

    /// @dev One of twelve, so that they meet again.
    function _hash(uint256 seed) private pure returns (bytes32) {
        return keccak256(abi.encode(seed % 12));
    }

    function _owner(uint256 who, uint256 name) private view returns (bytes32 key, address p, bool may) {
        key = keys[name % 3];
        Book storage b = books[key];
        p = who % 4 == 0 || b.owner == address(0) ? people[who % 4] : b.owner;
        may = p == b.owner && (b.disputedAt != 0 || block.timestamp <= b.seenAt + 104 days);
    }

    /// @dev The account asks for the name, if it has not.
    function _askFirst(address p, uint256 name) private {
        if (books[keys[name]].owner == p || domains.requestOf(keys[name], p).requestedAt != 0) return;
        vm.prank(p);
        domains.request(names[name], IDomainRegistry.TargetType.Site, _hash(name));
    }

    /// @dev Mostly a name in dispute, if there is one.
    function _busy(uint256 pick) private view returns (uint256) {
        uint256 first = pick % 3;
        for (uint256 i; i < 3 && pick % 4 != 0; ++i) {
            if (books[keys[(first + i) % 3]].disputedAt != 0) return (first + i) % 3;
        }
        return first;
    }

    function _mayVerify(Book storage b, address p, uint40 seenAt, uint40 requestedAt) private view returns (bool) {
        if (seenAt <= b.seenAt || seenAt + 24 hours < block.timestamp) return false;
        if (b.owner == p) return b.claimant == address(0) || seenAt > b.claimSeenAt;
        return requestedAt != 0 && (b.owner == address(0) || _isOverdue(b));
    }

    function _verified(bytes32 key, address p, uint40 seenAt, IDomainRegistry.RequestView memory r) private {
        Book storage b = books[key];
        if (b.owner != p) {
            if (b.owner != address(0)) _end(key);
            (b.owner, b.targetType, b.target) = (p, r.targetType, r.target);
        }
        (b.seenAt, b.claimant, b.claimSeenAt, b.disputedAt) = (seenAt, address(0), 0, 0);
    }

    function _mayDispute(Book storage b, address p, uint40 seenAt, uint40 requestedAt) private view returns (bool) {
        if (b.owner == address(0) || b.owner == p || b.claimant == p || requestedAt == 0) return false;
        return seenAt > b.seenAt && seenAt > b.claimSeenAt && seenAt + 24 hours >= block.timestamp;
    }

    function _isOverdue(Book storage b) private view returns (bool) {
        return b.owner != address(0) && b.disputedAt == 0 && block.timestamp > b.seenAt + 104 days;
    }

    function _end(bytes32 key) private {
        Book storage b = books[key];
        (uint256 ends, uint40 seenAt) = (b.ends + 1, b.seenAt);
        delete books[key];
        (b.ends, b.seenAt) = (ends, seenAt);
    }

    function _wasRevoked(bytes32 key, bytes32 hash) private view returns (bool) {
        for (uint256 i; i < revoked[key].length; ++i) {
            if (revoked[key][i] == hash) return true;
        }
        return false;
    }

    function _barred(bytes32 key, bytes32 hash) private {
        revoked[key].push(hash);
        if (books[key].oldSpkiHash == hash) books[key].oldSpkiHash = 0;
    }
}
