// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {Perspectives} from "../src/libraries/Perspectives.sol";
import {Q32} from "../src/libraries/Q32.sol";
import {ImageSuite} from "./utils/ImageSuite.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

contract ImageMarketplaceTest is ImageSuite {
    IImageMarketplace.Model internal constant FLAT = IImageMarketplace.Model.Flat;
    IImageMarketplace.Model internal constant ONCE = IImageMarketplace.Model.OneTime;
    IImageMarketplace.Status internal constant PUBLISHED = IImageMarketplace.Status.Published;
    IImageMarketplace.Status internal constant DEPRECATED = IImageMarketplace.Status.Deprecated;
    IImageMarketplace.Status internal constant HIDDEN = IImageMarketplace.Status.Hidden;
    IImageMarketplace.Status internal constant REMOVED = IImageMarketplace.Status.Removed;
    IImageMarketplace.Status internal constant DOWN = IImageMarketplace.Status.TakenDown;
    bytes32 internal constant REASON = keccak256("reason");
    bytes32 internal constant JOB = keccak256("spec");
    uint256 internal constant WHOLE = 1e12;

    function test_quoteKept_whateverThePublisherDoes() public {
        uint32 seq = _publish(_royalty(500));
        vm.prank(publisher);
        images.setStatus(seq, IImageMarketplace.Status.Hidden);
        vm.expectRevert(
            abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, IImageMarketplace.Status.Hidden)
        );
        images.quote(seq, ALEPH, 10_000);
        (uint64 payee, uint128 rate, uint128 once) = images.quoteKept(seq, ALEPH, 10_000);
        assertEq(payee, Payees.ofImage(seq));
        assertEq(rate, 500);
        assertEq(once, 0);
        images.takedown(seq, "reason");
        (payee, rate, once) = images.quoteKept(seq, ALEPH, 10_000);
        assertEq(payee, Payees.ofImage(seq));
        assertEq(rate + once, 0);
    }

    /* PUBLISHING */

    function test_publish_toThePublisherAlone() public {
        IImageMarketplace.Listing memory l = _royalty(500);
        IImageMarketplace.Recipient[] memory list = new IImageMarketplace.Recipient[](1);
        list[0] = IImageMarketplace.Recipient(publisher, uint40(WHOLE));
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImagePublished(1, publisher, l.model, 0, 0, 500, 0, 0, 50);
        vm.expectEmit(address(images));
        emit IImageMarketplace.SplitSet(1, list);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageVersion(1, l.imageId, l.manifestHash, 1);
        assertEq(_publish(l), 1);
        assertEq(token.balanceOf(address(images)), 50 ether);
        IImageMarketplace.ImageView memory v = images.image(1);
        assertEq(v.publisher, publisher);
        assertEq(uint8(v.status), uint8(PUBLISHED));
        assertEq(uint8(v.model), uint8(IImageMarketplace.Model.Royalty));
        assertEq(v.royaltyBps, 500);
        assertEq(v.since, START);
        assertEq(v.bond, 50);
        assertEq(v.imageId, l.imageId);
        assertEq(v.manifestHash, l.manifestHash);
        assertEq(v.version, 1);
        assertEq(v.depth, 1);
        assertEq(abi.encode(v.recipients), abi.encode(list));
        assertEq(images.lastSeq(), 1);
        assertEq(images.image(2).publisher, address(0));
        assertEq(_publish(_free()), 2, "the same content twice is two listings");
    }

    function test_publish_reverts() public {
        IImageMarketplace.Listing memory l = _free();
        l.imageId = 0;
        _refuse(l, abi.encodeWithSelector(AlephErrors.ZeroHash.selector));
        l = _free();
        l.manifestHash = 0;
        _refuse(l, abi.encodeWithSelector(AlephErrors.ZeroHash.selector));
        _refuse(_royalty(2_001), abi.encodeWithSelector(IImageMarketplace.RoyaltyTooHigh.selector, 2_001));
        bytes memory badTerms =
            abi.encodeWithSelector(IImageMarketplace.BadTerms.selector, IImageMarketplace.Model.Royalty);
        _refuse(_royalty(0), badTerms);
        l = _royalty(1);
        l.price = 1;
        _refuse(l, badTerms);
        l = _free();
        l.token = ALEPH;
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.BadTerms.selector, IImageMarketplace.Model.Free));
        l = _priced(FLAT, 1);
        l.royaltyBps = 1;
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.BadTerms.selector, FLAT));
        _refuse(_priced(ONCE, 0), abi.encodeWithSelector(IImageMarketplace.BadTerms.selector, ONCE));
        l = _priced(ONCE, 1);
        l.token = 0;
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.BadTerms.selector, ONCE));
        _refuse(
            _priced(FLAT, 1 << 96),
            abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1 << 96, 1, type(uint96).max)
        );
        l = _priced(FLAT, 1);
        l.token = 2;
        _refuse(l, abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 2));
    }

    function test_publish_revertsOnBadSplits() public {
        IImageMarketplace.Listing memory l = _free();
        l.splits = _split(_parts(5_000, 4_999));
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.BadSplit.selector, 9_999));
        l.splits = _split(_parts(10_000, 0));
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.BadSplit.selector, 0));
        l.splits = _split(_parts(5_000, 5_000));
        l.splits[1].recipient = address(0);
        _refuse(l, abi.encodeWithSelector(AlephErrors.ZeroAddress.selector));
        l.splits = _split(new uint16[](7));
        _refuse(l, abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 7, 0, 6));
        l.splits = new IImageMarketplace.Split[](0);
        l.parentBps = 1;
        _refuse(l, abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1, 0, 0));
        l.parent = 1;
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.UnknownImage.selector, 1));
        l.parentBps = 3_001;
        _refuse(l, abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 3_001, 0, 3_000));
    }

    function test_publish_needsBondAndTime() public {
        images.pause(Pausing.ENTRY, 1 days);
        _refuse(_free(), abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        images.unpause();
        images.setBond(10_000);
        IImageMarketplace.Listing memory l = _free();
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(images), 0, 10_000 ether)
        );
        images.publish(l);
        _publish(_free());
        assertEq(token.balanceOf(address(images)), 10_000 ether);
    }

    function test_publish_derivatives() public {
        IImageMarketplace.Listing memory l = _free();
        l.splits = _split(_parts(7_500, 2_500));
        uint32 a = _publish(l);
        l = _free();
        (l.parent, l.parentBps) = (a, 3_000);
        uint32 b = _publish(l);
        IImageMarketplace.Recipient[] memory list = images.image(b).recipients;
        assertEq(list.length, 3);
        assertEq(list[0].recipient, publisher);
        assertEq(list[0].part, WHOLE * 70 / 100);
        assertEq(list[1].recipient, _recipient(0));
        assertEq(list[1].part, WHOLE * 225 / 1000);
        assertEq(list[2].part, WHOLE * 75 / 1000);
        (l.parent, l.parentBps) = (b, 1);
        uint32 c = _publish(l);
        assertEq(images.image(c).depth, 3);
        assertEq(images.image(c).recipients.length, 4);
        assertEq(images.image(c).recipients[3].part, WHOLE * 75 / 1e7);
        l.parent = c;
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.TooDeep.selector, c));
        vm.prank(publisher);
        images.setStatus(b, HIDDEN);
        l.parent = b;
        _refuse(l, abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, b, HIDDEN));
        // A lineage without a part.
        (l.parent, l.parentBps) = (a, 0);
        assertEq(images.image(_publish(l)).recipients.length, 1);
    }

    /// @dev IM-1, for every list.
    function testFuzz_publish_partsMakeTheWhole(uint256 seed, uint16 p1, uint16 p2) public {
        IImageMarketplace.Listing memory l = _free();
        l.splits = _randomSplit(seed);
        uint32 a = _publish(l);
        l.splits = _randomSplit(uint256(keccak256(abi.encode(seed, 1))));
        (l.parent, l.parentBps) = (a, uint16(bound(p1, 0, 3_000)));
        uint32 b = _publish(l);
        l.splits = _randomSplit(uint256(keccak256(abi.encode(seed, 2))));
        (l.parent, l.parentBps) = (b, uint16(bound(p2, 0, 3_000)));
        uint32 c = _publish(l);
        for (uint32 seq = a; seq <= c; ++seq) {
            IImageMarketplace.Recipient[] memory list = images.image(seq).recipients;
            uint256 sum;
            for (uint256 i; i < list.length; ++i) {
                assertGt(list[i].part, 0);
                sum += list[i].part;
            }
            assertEq(sum, WHOLE, "IM-1");
            assertLe(list.length, 18);
        }
    }

    function test_newVersion_keepsTheRest() public {
        IImageMarketplace.Listing memory l = _free();
        l.splits = _split(_parts(7_500, 2_500));
        uint32 seq = _publish(l);
        bytes32 before = keccak256(abi.encode(images.image(seq).recipients));
        vm.prank(publisher);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageVersion(seq, "new", "other", 2);
        images.newVersion(seq, "new", "other");
        IImageMarketplace.ImageView memory v = images.image(seq);
        assertEq(v.imageId, "new");
        assertEq(v.manifestHash, "other");
        assertEq(v.version, 2);
        assertEq(keccak256(abi.encode(v.recipients)), before);
    }

    function test_newVersion_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.UnknownImage.selector, 1));
        images.newVersion(1, "new", "other");
        uint32 seq = _publish(_free());
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        images.newVersion(seq, "new", "other");
        vm.startPrank(publisher);
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        images.newVersion(seq, 0, "other");
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        images.newVersion(seq, "new", 0);
        images.unpublish(seq);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, REMOVED));
        images.newVersion(seq, "new", "other");
        vm.stopPrank();
        images.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        images.newVersion(seq, "new", "other");
    }

    /* STATUS */

    function test_setStatus_decidesAboutNewJobs() public {
        uint32 seq = _publish(_royalty(500));
        assertTrue(images.usable(seq));
        _status(seq, DEPRECATED);
        assertTrue(images.usable(seq));
        images.quote(seq, ALEPH, 1);
        _status(seq, HIDDEN);
        assertFalse(images.usable(seq));
        assertTrue(images.isPaying(seq));
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, HIDDEN));
        images.quote(seq, ALEPH, 1);
        _status(seq, PUBLISHED);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, 9, 0));
        images.quote(9, ALEPH, 1);
        assertFalse(images.isPaying(9));
    }

    function test_setStatus_reverts() public {
        uint32 seq = _publish(_free());
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        images.setStatus(seq, HIDDEN);
        vm.startPrank(publisher);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 3));
        images.setStatus(seq, IImageMarketplace.Status.None);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 4, 1, 3));
        images.setStatus(seq, REMOVED);
        vm.stopPrank();
        images.pause(Pausing.ENTRY, 1 days);
        _status(seq, HIDDEN);
        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        images.setStatus(seq, PUBLISHED);
    }

    function test_unpublish_givesTheBondBackAfter30Days() public {
        uint32 seq = _publish(_free());
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadState.selector, PUBLISHED, REMOVED));
        images.returnBond(seq);
        vm.prank(publisher);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageStatus(seq, PUBLISHED, REMOVED);
        images.unpublish(seq);
        assertFalse(images.usable(seq));
        assertTrue(images.isPaying(seq), "running jobs go on paying");
        skip(30 days - 1);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.BondLocked.selector, START + 30 days));
        images.returnBond(seq);
        skip(1);
        uint256 before = token.balanceOf(publisher);
        images.pause(Pausing.EXIT, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        images.returnBond(seq);
        images.unpause();
        vm.expectEmit(address(images));
        emit IImageMarketplace.BondReturned(seq, publisher, 50 ether);
        images.returnBond(seq);
        assertEq(token.balanceOf(publisher) - before, 50 ether);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.BondLocked.selector, 0));
        images.returnBond(seq);
    }

    function test_returnBond_isWhatWasTaken() public {
        uint32 seq = _publish(_free());
        images.setBond(100);
        vm.prank(publisher);
        images.unpublish(seq);
        skip(30 days);
        images.returnBond(seq);
        assertEq(token.balanceOf(address(images)), 0);
    }

    /* MODERATION */

    function test_takedown_endsNewJobsAndRoyalties() public {
        uint32 seq = _publish(_royalty(500));
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageStatus(seq, PUBLISHED, DOWN);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageTakenDown(seq, REASON);
        images.takedown(seq, REASON);
        assertFalse(images.usable(seq));
        assertFalse(images.isPaying(seq));
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, DOWN));
        images.quote(seq, ALEPH, 1);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, DOWN));
        images.takedown(seq, REASON);
        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, DOWN));
        images.setStatus(seq, PUBLISHED);
        // What it earned before is paid.
        _earn(seq, 100);
        assertEq(_distribute(seq), 100);
    }

    function test_takedown_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.UnknownImage.selector, 1));
        images.takedown(1, REASON);
        uint32 seq = _publish(_free());
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        images.takedown(seq, 0);
    }

    function test_restore() public {
        uint32 seq = _publish(_free());
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadState.selector, PUBLISHED, DOWN));
        images.restore(seq);
        images.takedown(seq, REASON);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageStatus(seq, DOWN, HIDDEN);
        images.restore(seq);
        _status(seq, PUBLISHED);
        assertTrue(images.usable(seq));
        images.takedown(seq, REASON);
        skip(30 days);
        images.returnBond(seq);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.BondLocked.selector, 0));
        images.restore(seq);
    }

    function test_takedown_ofARemovedImageLocksTheBondAnew() public {
        uint32 seq = _publish(_free());
        vm.prank(publisher);
        images.unpublish(seq);
        skip(30 days);
        images.takedown(seq, REASON);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.BondLocked.selector, START + 60 days));
        images.returnBond(seq);
    }

    function test_forfeit_burnsTheBond() public {
        uint32 seq = _publish(_free());
        bytes32 digest = images.verdictDigest(seq, REASON);
        bytes memory sigs = _sigs(digest, hex"0001020304");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadState.selector, PUBLISHED, DOWN));
        images.forfeit(seq, REASON, sigs);
        images.takedown(seq, REASON);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        images.forfeit(seq, keccak256("other"), sigs);
        bytes memory few = _sigs(digest, hex"00010203");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooLittleWeight.selector, 2_000_000, 4_000_000));
        images.forfeit(seq, REASON, few);
        images.pause(Pausing.PENALTY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
        images.forfeit(seq, REASON, sigs);
        images.unpause();
        uint256 supply = token.totalSupply();
        vm.expectEmit(address(images));
        emit IImageMarketplace.BondForfeited(seq, REASON, 50 ether);
        images.forfeit(seq, REASON, sigs);
        assertEq(supply - token.totalSupply(), 50 ether);
        assertEq(token.balanceOf(address(images)), 0);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.BondLocked.selector, 0));
        images.forfeit(seq, REASON, sigs);
        skip(30 days);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.BondLocked.selector, 0));
        images.returnBond(seq);
    }

    /* QUOTES */

    function test_quote_ofEachModel() public {
        uint32 free = _publish(_free());
        _quotes(free, 7, 1e20, 0, 0);
        uint32 royalty = _publish(_royalty(2_000));
        _quotes(royalty, 7, 1e20, 2e19, 0);
        _quotes(royalty, 7, 4, 0, 0);
        uint32 flat = _publish(_priced(FLAT, type(uint96).max));
        _quotes(flat, ALEPH, 1e20, type(uint96).max, 0);
        uint32 once = _publish(_priced(ONCE, 5 ether));
        _quotes(once, ALEPH, 1e20, 0, 5 ether);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.WrongToken.selector, 7, ALEPH));
        images.quote(flat, 7, 1);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.WrongToken.selector, 7, ALEPH));
        images.quote(once, 7, 1);
    }

    /// @dev IM-5: a royalty comes on top and is at most a fifth.
    function testFuzz_quote_royalty(uint128 rate, uint16 bps) public {
        bps = uint16(bound(bps, 1, 2_000));
        (, uint128 extra, uint128 once) = images.quote(_publish(_royalty(bps)), ALEPH, rate);
        assertEq(extra, uint256(rate) * bps / 10_000);
        assertLe(extra, rate / 5);
        assertEq(once, 0);
    }

    /* REVENUE */

    function test_distribute_splits() public {
        IImageMarketplace.Listing memory l = _free();
        l.splits = _split(_parts(7_500, 2_500));
        uint32 seq = _publish(l);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _distribute(seq);
        _earn(seq, 1_003);
        vm.expectEmit(address(images));
        emit IImageMarketplace.RoyaltiesDistributed(seq, ALEPH, 1_002);
        assertEq(_distribute(seq), 1_002);
        assertEq(token.balanceOf(_recipient(0)), 752);
        assertEq(token.balanceOf(_recipient(1)), 250);
        assertEq(payments.creditOf(Payees.ofImage(seq), ALEPH), 1, "what does not divide stays");
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _distribute(seq);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.UnknownImage.selector, 9));
        images.distribute(9, ALEPH, new address[](0));
    }

    function test_distribute_claimsFirst() public {
        uint32 seq = _publish(_priced(FLAT, uint128(1e12 * Q)));
        vm.prank(address(jobs));
        payments.setFlow(payer, ALEPH, Payees.ofImage(seq), int256(1e12 * Q));
        skip(60);
        assertEq(images.distribute(seq, ALEPH, _payers()), 60e12);
        assertEq(token.balanceOf(publisher), 100_000 ether - 50 ether + 60e12);
    }

    /// @dev IM-2: nothing is made and nothing is lost, and the rest is less than a wei for each recipient.
    function testFuzz_distribute(uint256 seed, uint96 amount) public {
        amount = uint96(bound(amount, 1, 1_000_000 ether));
        IImageMarketplace.Listing memory l = _free();
        l.splits = _randomSplit(seed);
        uint32 seq = _publish(l);
        _earn(seq, amount);
        uint256 n = l.splits.length == 0 ? 1 : l.splits.length;
        (bool ok, bytes memory out) =
            address(images).call(abi.encodeCall(images.distribute, (seq, ALEPH, new address[](0))));
        uint256 paid = ok ? abi.decode(out, (uint256)) : 0;
        uint256 left = payments.creditOf(Payees.ofImage(seq), ALEPH);
        assertEq(paid + left, amount);
        assertLt(left, n);
    }

    /* RATINGS */

    function test_rate_counts() public {
        images.setUsdUnit(ALEPH, 10 ether);
        uint32 seq = _publish(_royalty(500));
        _setJob(JOB, _ranJob(seq, 24 hours));
        // 24 USD: floor(log2(25)) = 4.
        uint8 period = uint8(block.timestamp / 180 days - 112);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageRated(
            seq, payer, JOB, 5, 4, period, "review", uint104(4) << period, uint104(20) << period, 1
        );
        vm.prank(payer);
        images.rate(seq, 5, JOB, "review");
        (uint64 weight, uint64 stars, uint32 count) = images.rating(seq);
        assertEq(weight, 4 << 16);
        assertEq(stars, 20 << 16);
        assertEq(count, 1);
        (uint104 sum, uint104 starsSum, uint32 n) = images.weightsOf(seq);
        assertEq(sum, uint104(4) << period);
        assertEq(starsSum, uint104(20) << period);
        assertEq(n, 1);
        IImageMarketplace.RatingView memory r = images.ratingOf(seq, payer);
        assertEq(r.stars, 5);
        assertEq(r.weight, 4);
        assertEq(r.ratedAt, START);
        // The same payer again replaces it.
        _setJob(JOB, _ranJob(seq, 240 hours));
        vm.prank(payer);
        images.rate(seq, 1, JOB, 0);
        (weight, stars, count) = images.rating(seq);
        assertEq(weight, 7 << 16);
        assertEq(stars, 7 << 16);
        assertEq(count, 1);
    }

    function test_rate_halvesEvery180Days() public {
        images.setUsdUnit(ALEPH, 10 ether);
        uint32 seq = _publish(_royalty(500));
        _setJob(JOB, _ranJob(seq, 24 hours));
        vm.prank(payer);
        images.rate(seq, 5, JOB, 0);
        skip(180 days);
        (uint64 weight, uint64 stars,) = images.rating(seq);
        assertEq(weight, 2 << 16);
        assertEq(stars, 10 << 16);
        // Another payer's counts in full.
        IJobManager.JobView memory j = _ranJob(seq, 24 hours);
        j.payer = makeAddr("other");
        _setJob("other", j);
        vm.prank(j.payer);
        images.rate(seq, 2, "other", 0);
        (weight, stars,) = images.rating(seq);
        assertEq(weight, 6 << 16);
        assertEq(stars, 18 << 16);
        skip(180 days * 20);
        (weight, stars,) = images.rating(seq);
        assertEq(weight, 6 << 16 >> 20);
        // The halving ends after 60 periods and nothing overflows.
        skip(36500 days);
        images.rating(seq);
        _setJob(JOB, _ranJob(seq, 24 hours));
        vm.prank(payer);
        images.rate(seq, 5, JOB, 0);
        (weight,,) = images.rating(seq);
        assertEq(weight >> 16, 4);
        vm.warp(1);
        (weight,,) = images.rating(seq);
    }

    function test_rate_weightIsCapped() public {
        images.setUsdUnit(ALEPH, 1);
        uint32 seq = _publish(_royalty(500));
        _setJob(JOB, _ranJob(seq, 24 hours));
        vm.prank(payer);
        images.rate(seq, 5, JOB, 0);
        assertEq(images.ratingOf(seq, payer).weight, 16);
    }

    function test_rate_reverts() public {
        uint32 seq = _publish(_royalty(500));
        IJobManager.JobView memory j = _ranJob(seq, 24 hours);
        _cannotRate(seq, 0, j, abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 5));
        _cannotRate(seq, 6, j, abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 6, 1, 5));
        _cannotRate(9, 5, j, abi.encodeWithSelector(IImageMarketplace.UnknownImage.selector, 9));
        _cannotRate(seq, 5, j, abi.encodeWithSelector(IImageMarketplace.NoUsdUnit.selector, ALEPH));
        images.setUsdUnit(ALEPH, 10 ether);
        j.payer = publisher;
        _cannotRate(seq, 5, j, abi.encodeWithSelector(IImageMarketplace.NotPayer.selector, JOB, payer));
        j = _ranJob(seq + 1, 24 hours);
        _cannotRate(seq, 5, j, abi.encodeWithSelector(IImageMarketplace.WrongImage.selector, seq + 1, seq));
        _tooEarly(seq, _ranJob(seq, 24 hours - 1), 24 hours - 1);
        j = _ranJob(seq, 24 hours);
        j.startedAt = 0;
        _tooEarly(seq, j, 0);
        j = _ranJob(seq, 24 hours);
        j.status = IJobManager.Status.Reassign;
        _tooEarly(seq, j, 0);
        j = _ranJob(seq, 24 hours);
        j.rateQ32 = uint128(uint256(10 ether << 32) / 24 hours);
        uint256 spent = Q32.floorWei(j.rateQ32, 24 hours);
        _cannotRate(seq, 5, j, abi.encodeWithSelector(AlephErrors.Insufficient.selector, spent, 10 ether));
    }

    function test_rate_everyEndCounts() public {
        images.setUsdUnit(ALEPH, 10 ether);
        uint32 seq = _publish(_royalty(500));
        IJobManager.Status[4] memory ends = [
            IJobManager.Status.Stopped,
            IJobManager.Status.Completed,
            IJobManager.Status.Failed,
            IJobManager.Status.Expired
        ];
        for (uint256 i; i < 4; ++i) {
            IJobManager.JobView memory j = _ranJob(seq, 24 hours);
            j.status = ends[i];
            _setJob(JOB, j);
            vm.prank(payer);
            images.rate(seq, 5, JOB, 0);
        }
    }

    function test_rate_onlyWhatIsPaidFor() public {
        images.setUsdUnit(ALEPH, 10 ether);
        uint32 seq = _publish(_royalty(500));
        uint32 node = workers[0].id;
        vm.prank(address(jobs));
        payments.setFlow(payer, ALEPH, node, int256(1e12 * Q));
        vm.prank(payer);
        token.approve(address(payments), 0);
        IJobManager.JobView memory j = _ranJob(seq, 24 hours);
        (j.status, j.startedAt) = (IJobManager.Status.Running, uint40(block.timestamp));
        skip(24 hours);
        _cannotRate(seq, 5, j, abi.encodeWithSelector(IImageMarketplace.NotPaid.selector, JOB));
        vm.prank(payer);
        token.approve(address(payments), type(uint256).max);
        payments.pull(payer, ALEPH);
        skip(1 hours);
        assertEq(payments.account(payer, ALEPH).paidUntil, block.timestamp);
        vm.prank(payer);
        images.rate(seq, 5, JOB, 0);
        // A job that ended in debt.
        vm.prank(payer);
        token.approve(address(payments), 0);
        skip(24 hours);
        vm.prank(address(jobs));
        payments.setFlow(payer, ALEPH, node, -int256(1e12 * Q));
        j = _ranJob(seq, 24 hours);
        _cannotRate(seq, 5, j, abi.encodeWithSelector(IImageMarketplace.NotPaid.selector, JOB));
    }

    function test_rate_notByWhoEarns() public {
        images.setUsdUnit(ALEPH, 10 ether);
        IImageMarketplace.Listing memory l = _royalty(500);
        l.splits = _split(_parts(7_500, 2_500));
        uint32 seq = _publish(l);
        _cannotRateAs(publisher, seq);
        _cannotRateAs(_recipient(1), seq);
        // Who earns from what a derivative derives from may not rate that, either.
        _cannotRateAs(_recipient(1), _publish(_child(seq)));
    }

    /* WITH JOBS */

    function test_job_paysRoyaltiesOnTop() public {
        images.setUsdUnit(ALEPH, 1e15);
        uint128 rateQ32 = uint128(1e12 * Q);
        uint32 seq = _publish(_royalty(2_000));
        _runWith(seq, JOB, rateQ32);
        assertEq(jobs.job(JOB).imageSeq, seq);
        assertEq(payments.pair(payer, ALEPH, workers[0].id).rateQ32, rateQ32, "IM-5: the node gets its rate");
        assertEq(payments.pair(payer, ALEPH, Payees.ofImage(seq)).rateQ32, rateQ32 / 5);
        skip(24 hours);
        _cannotRateReal(seq, abi.encodeWithSelector(IImageMarketplace.NotPaid.selector, JOB));
        payments.pull(payer, ALEPH);
        vm.prank(payer);
        images.rate(seq, 4, JOB, 0);
        // 86.4 USD.
        assertEq(images.ratingOf(seq, payer).weight, 6);
        // What was taken down is for no new job, and this one goes on.
        images.takedown(seq, REASON);
        Opening memory o = _opening("next", rateQ32, workers[0]);
        (o.offer.imageSeq, o.offer.maxRateQ32) = (seq, 2 * rateQ32);
        _signOpening(o, payerKey, workers[0], 3);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.ImageNotUsable.selector, seq, DOWN));
        _send(o);
        _stop(JOB);
        uint256 before = token.balanceOf(publisher);
        assertEq(images.distribute(seq, ALEPH, _payers()), 24 hours * 1e12 / 5);
        assertEq(token.balanceOf(publisher) - before, 24 hours * 1e12 / 5);
    }

    function test_job_paysOnce() public {
        uint32 seq = _publish(_priced(ONCE, 5 ether));
        _runWith(seq, JOB, uint128(1e12 * Q));
        assertEq(payments.creditOf(Payees.ofImage(seq), ALEPH), 5 ether);
        assertEq(_distribute(seq), 5 ether);
    }

    function _cannotRateReal(uint32 seq, bytes memory err) private {
        vm.prank(payer);
        vm.expectRevert(err);
        images.rate(seq, 5, JOB, 0);
    }

    /* PARAMETERS */

    function test_roles_refuseEverybodyElse() public {
        bytes memory err = abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, publisher);
        vm.startPrank(publisher);
        vm.expectRevert(err);
        images.setUsdUnit(ALEPH, 1);
        vm.expectRevert(err);
        images.setBond(1);
        vm.expectRevert(err);
        images.takedown(1, REASON);
        vm.expectRevert(err);
        images.restore(1);
    }

    function test_setUsdUnit() public {
        vm.expectEmit(address(images));
        emit IImageMarketplace.UsdUnitSet(ALEPH, 10 ether);
        images.setUsdUnit(ALEPH, 10 ether);
        assertEq(images.usdUnit(ALEPH), 10 ether);
    }

    function test_setBond_isBounded() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 10_000));
        images.setBond(0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 10_001, 1, 10_000));
        images.setBond(10_001);
        vm.expectEmit(address(images));
        emit IImageMarketplace.BondSet(7);
        images.setBond(7);
        assertEq(images.bondOfNew(), 7);
    }

    /* HELPERS */

    function _refuse(IImageMarketplace.Listing memory l, bytes memory err) private {
        vm.prank(publisher);
        vm.expectRevert(err);
        images.publish(l);
    }

    function _status(uint32 seq, IImageMarketplace.Status to) private {
        IImageMarketplace.Status from = images.image(seq).status;
        vm.prank(publisher);
        vm.expectEmit(address(images));
        emit IImageMarketplace.ImageStatus(seq, from, to);
        images.setStatus(seq, to);
    }

    function _quotes(uint32 seq, uint8 t, uint128 rate, uint128 extra, uint128 once) private view {
        (uint64 payee, uint128 e, uint128 o) = images.quote(seq, t, rate);
        assertEq(payee, (1 << 32) + uint64(seq));
        assertEq(e, extra);
        assertEq(o, once);
    }

    function _cannotRate(uint32 seq, uint8 stars, IJobManager.JobView memory j, bytes memory err) private {
        _setJob(JOB, j);
        vm.prank(payer);
        vm.expectRevert(err);
        images.rate(seq, stars, JOB, 0);
    }

    function _tooEarly(uint32 seq, IJobManager.JobView memory j, uint256 ran) private {
        _cannotRate(seq, 5, j, abi.encodeWithSelector(IImageMarketplace.TooEarly.selector, ran, 24 hours));
    }

    function _cannotRateAs(address who, uint32 seq) private {
        IJobManager.JobView memory j = _ranJob(seq, 24 hours);
        j.payer = who;
        _setJob(JOB, j);
        vm.prank(who);
        vm.expectRevert(abi.encodeWithSelector(IImageMarketplace.SelfRating.selector, who));
        images.rate(seq, 5, JOB, 0);
    }

    function _child(uint32 parent) private pure returns (IImageMarketplace.Listing memory l) {
        l = _royalty(500);
        (l.parent, l.parentBps) = (parent, 100);
    }

    function _parts(uint16 a, uint16 b) private pure returns (uint16[] memory bps) {
        bps = new uint16[](2);
        (bps[0], bps[1]) = (a, b);
    }

    /// @dev None to six parts.
    function _randomSplit(uint256 seed) private pure returns (IImageMarketplace.Split[] memory) {
        uint16[] memory bps = new uint16[](seed % 7);
        uint256 left = 10_000;
        for (uint256 i; i < bps.length; ++i) {
            uint256 most = left - (bps.length - i - 1);
            bps[i] = i + 1 == bps.length ? uint16(left) : uint16(1 + uint256(keccak256(abi.encode(seed, i))) % most);
            left -= bps[i];
        }
        return _split(bps);
    }
}
