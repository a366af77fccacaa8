// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {ImageSuite} from "../utils/ImageSuite.sol";

/// @title ImageHandler
/// @notice Publishers, payers, governance and scanners in any order, with books of their own.
contract ImageHandler is ImageSuite {
    struct Book {
        address publisher;
        IImageMarketplace.Status status;
        uint256 bond;
        uint40 endedAt;
        uint256 earned;
        uint256 paid;
        uint256 recipients;
    }

    struct Opinion {
        uint256 stars;
        uint256 weight;
        uint256 period;
    }

    uint256 internal constant MAX_IMAGES = 12;

    address[3] public publishers;
    address[4] public raters;
    uint32 public count;
    uint256 public bonds;
    mapping(uint32 seq => Book) internal books;
    mapping(uint32 seq => mapping(uint256 rater => Opinion)) internal opinions;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        ImageSuite.setUp();
        images.setUsdUnit(ALEPH, 10 ether);
        for (uint256 i; i < 3; ++i) {
            publishers[i] = makeAddr(string.concat("publisher", vm.toString(i)));
            _bond(publishers[i], 1_000_000 ether);
        }
        for (uint256 i; i < 4; ++i) {
            raters[i] = makeAddr(string.concat("rater", vm.toString(i)));
        }
    }

    /* PUBLISHING */

    function publish(uint256 who, uint256 seed, uint256 parent, uint256 parentBps) external {
        if (count == MAX_IMAGES) return;
        IImageMarketplace.Listing memory l = _listing(seed);
        if (count != 0 && parent % 2 == 0) {
            l.parent = uint32(1 + parent % count);
            l.parentBps = uint16(bound(parentBps, 0, 3_000));
        }
        address p = publishers[who % 3];
        vm.prank(p);
        try images.publish(l) returns (uint32 seq) {
            require(seq == ++count, "number");
            require(l.parent == 0 || _usable(l.parent), "derived from what is not usable");
            uint256 bond = uint256(images.bondOfNew()) * 1 ether;
            bonds += bond;
            uint256 n = images.image(seq).recipients.length;
            books[seq] = Book(p, IImageMarketplace.Status.Published, bond, 0, 0, 0, n);
        } catch (bytes memory err) {
            bytes4 s = bytes4(err);
            require(
                s == IImageMarketplace.TooDeep.selector
                    || (s == IImageMarketplace.ImageNotUsable.selector && !_usable(l.parent)),
                "unexpected revert of publish"
            );
        }
    }

    function newVersion(uint256 who, uint256 which, bytes32 content) external {
        if (count == 0) return;
        (uint32 seq, address p, bool may) = _published(who, which);
        vm.prank(p);
        try images.newVersion(seq, content | bytes32(uint256(1)), "manifest") {
            require(may, "version by another");
        } catch {
            require(!may, "unexpected revert of newVersion");
        }
    }

    function setStatus(uint256 who, uint256 which, uint256 to) external {
        if (count == 0) return;
        (uint32 seq, address p, bool may) = _published(who, which);
        IImageMarketplace.Status status = IImageMarketplace.Status(1 + to % 3);
        vm.prank(p);
        try images.setStatus(seq, status) {
            require(may, "status by another");
            books[seq].status = status;
        } catch {
            require(!may, "unexpected revert of setStatus");
        }
    }

    function unpublish(uint256 who, uint256 which) external {
        if (count < MAX_IMAGES / 2) return;
        (uint32 seq, address p, bool may) = _published(who, which);
        vm.prank(p);
        try images.unpublish(seq) {
            require(may, "unpublished by another");
            (books[seq].status, books[seq].endedAt) = (IImageMarketplace.Status.Removed, uint40(block.timestamp));
        } catch {
            require(!may, "unexpected revert of unpublish");
        }
    }

    function returnBond(uint256 which) external {
        if (count == 0) return;
        uint32 seq = _seq(which);
        Book storage b = books[seq];
        uint256 before = token.balanceOf(b.publisher);
        bool may = b.endedAt != 0 && block.timestamp >= b.endedAt + 30 days && b.bond != 0;
        try images.returnBond(seq) {
            require(may, "bond returned too soon");
            require(token.balanceOf(b.publisher) - before == b.bond, "another bond");
            bonds -= b.bond;
            b.bond = 0;
        } catch {
            require(!may, "unexpected revert of returnBond");
        }
    }

    function setBond(uint16 bond) external {
        images.setBond(uint16(bound(bond, 1, 200)));
    }

    /* MODERATION */

    function takedown(uint256 which) external {
        if (count < MAX_IMAGES / 2) return;
        uint32 seq = _seq(which);
        Book storage b = books[seq];
        bool may = b.status != IImageMarketplace.Status.TakenDown;
        try images.takedown(seq, "reason") {
            require(may, "taken down twice");
            (b.status, b.endedAt) = (IImageMarketplace.Status.TakenDown, uint40(block.timestamp));
        } catch {
            require(!may, "unexpected revert of takedown");
        }
    }

    function restore(uint256 which) external {
        if (count == 0) return;
        uint32 seq = _seq(which);
        Book storage b = books[seq];
        bool may = b.status == IImageMarketplace.Status.TakenDown && b.bond != 0;
        try images.restore(seq) {
            require(may, "restored without a bond");
            (b.status, b.endedAt) = (IImageMarketplace.Status.Hidden, 0);
        } catch {
            require(!may, "unexpected revert of restore");
        }
    }

    function forfeit(uint256 which) external {
        if (count == 0) return;
        uint32 seq = _seq(which);
        Book storage b = books[seq];
        bool may = b.status == IImageMarketplace.Status.TakenDown && b.bond != 0;
        try images.forfeit(seq, "reason", _sigs(images.verdictDigest(seq, "reason"), hex"0001020304")) {
            require(may, "forfeited what must not be");
            bonds -= b.bond;
            b.bond = 0;
        } catch {
            require(!may, "unexpected revert of forfeit");
        }
    }

    /* REVENUE */

    function earn(uint256 which, uint256 amount) external {
        if (count == 0) return;
        uint32 seq = _seq(which);
        uint128 a = uint128(bound(amount, 1, amount % 2 == 0 ? 100 : 100 ether));
        _earn(seq, a);
        books[seq].earned += a;
    }

    function distribute(uint256 which) external {
        if (count == 0) return;
        uint32 seq = _seq(which);
        Book storage b = books[seq];
        uint256 credit = payments.creditOf(Payees.ofImage(seq), ALEPH);
        try images.distribute(seq, ALEPH, new address[](0)) returns (uint256 paid) {
            b.paid += paid;
            require(paid != 0 && credit - paid < b.recipients, "IM-2: dust");
        } catch {
            require(credit < b.recipients, "unexpected revert of distribute");
        }
    }

    /* RATINGS */

    function rate(uint256 who, uint256 which, uint256 stars, uint256 spent) external {
        if (count == 0) return;
        uint32 seq = _seq(which);
        uint256 r = who % 4;
        IJobManager.JobView memory j = _ranJob(seq, 24 hours);
        j.payer = raters[r];
        uint256 usd = bound(spent, 1, spent % 2 == 0 ? 1e6 : 30);
        j.rateQ32 = uint128((usd * 10 ether << 32) / 24 hours) + 1;
        _setJob("job", j);
        stars = 1 + stars % 5;
        vm.prank(raters[r]);
        images.rate(seq, uint8(stars), "job", 0);
        uint256 weight;
        while (2 << weight <= 1 + usd && weight < 16) ++weight;
        opinions[seq][r] = Opinion(stars, weight, block.timestamp / 180 days - 112);
    }

    function warp(uint256 time) external {
        skip(bound(time, 1, time % 3 == 0 ? 100 days : 20 days));
        nodes.snapshotCoordinators();
    }

    /* VIEWS */

    function book(uint32 seq) external view returns (Book memory) {
        return books[seq];
    }

    function opinion(uint32 seq, uint256 rater) external view returns (Opinion memory) {
        return opinions[seq][rater];
    }

    function contracts() external view returns (address, address, address) {
        return (address(images), address(payments), address(token));
    }

    /* INTERNAL */

    function _seq(uint256 which) private view returns (uint32) {
        return uint32(1 + which % count);
    }

    /// @dev Mostly the publisher.
    function _published(uint256 who, uint256 which) private view returns (uint32 seq, address p, bool may) {
        seq = _seq(which);
        p = who % 4 == 0 ? publishers[who % 3] : books[seq].publisher;
        may = p == books[seq].publisher && books[seq].status < IImageMarketplace.Status.Removed;
    }

    function _usable(uint32 seq) private view returns (bool) {
        IImageMarketplace.Status s = books[seq].status;
        return s == IImageMarketplace.Status.Published || s == IImageMarketplace.Status.Deprecated;
    }

    function _listing(uint256 seed) private pure returns (IImageMarketplace.Listing memory l) {
        uint256 model = seed % 4;
        if (model == 0) l = _free();
        else if (model == 1) l = _royalty(uint16(1 + seed % 2_000));
        else l = _priced(IImageMarketplace.Model(model), uint128(1 + seed % 1e20));
        uint16[] memory bps = new uint16[]((seed >> 64) % 7);
        uint256 left = 10_000;
        for (uint256 i; i < bps.length; ++i) {
            uint256 most = left - (bps.length - i - 1);
            bps[i] = i + 1 == bps.length ? uint16(left) : uint16(1 + uint256(keccak256(abi.encode(seed, i))) % most);
            left -= bps[i];
        }
        l.splits = _split(bps);
    }
}
