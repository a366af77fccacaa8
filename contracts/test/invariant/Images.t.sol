// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../../src/AlephToken.sol";
import {ImageMarketplace} from "../../src/ImageMarketplace.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {IImageMarketplace} from "../../src/interfaces/IImageMarketplace.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {ImageHandler} from "./ImageHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Images
/// @notice What holds of images whatever happens in whatever order.
/// @dev Shorter than the others: most calls of the handler sign, and that takes the time of ten.
contract ImagesInvariantTest is Test {
    uint8 internal constant ALEPH = 1;
    uint128 internal constant RATE = 1e20;

    ImageHandler internal handler;
    ImageMarketplace internal images;
    PaymentManager internal payments;
    AlephToken internal token;

    function setUp() public {
        handler = new ImageHandler();
        handler.start();
        (address i, address p, address t) = handler.contracts();
        (images, payments, token) = (ImageMarketplace(i), PaymentManager(p), AlephToken(t));
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](13);
        selectors[0] = ImageHandler.publish.selector;
        selectors[1] = ImageHandler.newVersion.selector;
        selectors[2] = ImageHandler.setStatus.selector;
        selectors[3] = ImageHandler.unpublish.selector;
        selectors[4] = ImageHandler.returnBond.selector;
        selectors[5] = ImageHandler.setBond.selector;
        selectors[6] = ImageHandler.takedown.selector;
        selectors[7] = ImageHandler.restore.selector;
        selectors[8] = ImageHandler.forfeit.selector;
        selectors[9] = ImageHandler.earn.selector;
        selectors[10] = ImageHandler.distribute.selector;
        selectors[11] = ImageHandler.rate.selector;
        selectors[12] = ImageHandler.warp.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    /// @dev The parts of every image make the whole.
    function invariant_IM1_partsMakeTheWhole() public view {
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            IImageMarketplace.Recipient[] memory list = images.image(seq).recipients;
            uint256 sum;
            for (uint256 i; i < list.length; ++i) {
                sum += list[i].part;
            }
            assertEq(sum, 1e12);
            assertEq(list.length, handler.book(seq).recipients, "versions keep the recipients");
        }
    }

    /// @dev What was earned was paid or is there.
    function invariant_IM2_earningsAreConserved() public view {
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            ImageHandler.Book memory b = handler.book(seq);
            assertEq(b.paid + payments.creditOf(Payees.ofImage(seq), ALEPH), b.earned);
        }
    }

    /// @dev The sums are those of the ratings that stand.
    function invariant_IM3_sumsAreThoseOfTheRatings() public view {
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            uint256 weight;
            uint256 stars;
            for (uint256 r; r < 4; ++r) {
                ImageHandler.Opinion memory o = handler.opinion(seq, r);
                weight += o.weight << o.period;
                stars += (o.weight << o.period) * o.stars;
            }
            (uint104 w, uint104 s,) = images.weightsOf(seq);
            assertEq(w, weight);
            assertEq(s, stars);
            (uint64 now_, uint64 starsNow,) = images.rating(seq);
            assertLe(now_, 5 * 16 << 16);
            assertLe(starsNow, 5 * uint256(now_) + 5);
            assertLe(now_, starsNow + 1);
        }
    }

    /// @dev A payer has one rating of an image.
    function invariant_IM4_oneRatingEach() public view {
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            uint32 n;
            for (uint256 r; r < 4; ++r) {
                ImageHandler.Opinion memory o = handler.opinion(seq, r);
                if (o.stars != 0) ++n;
                IImageMarketplace.RatingView memory v = images.ratingOf(seq, handler.raters(r));
                assertEq(v.stars, o.stars);
                assertEq(v.weight, o.weight);
            }
            (,, uint32 count) = images.rating(seq);
            assertEq(count, n);
        }
    }

    /// @dev An image costs something on top, never instead: the node's rate is not touched.
    function invariant_IM5_royaltiesComeOnTop() public view {
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            if (!images.usable(seq)) continue;
            IImageMarketplace.ImageView memory v = images.image(seq);
            (uint64 payee, uint128 extra, uint128 once) = images.quote(seq, ALEPH, RATE);
            assertEq(payee, Payees.ofImage(seq));
            if (v.model == IImageMarketplace.Model.Royalty) assertLe(extra, RATE / 5);
            assertEq(extra != 0, v.model == IImageMarketplace.Model.Royalty || v.model == IImageMarketplace.Model.Flat);
            assertEq(once != 0, v.model == IImageMarketplace.Model.OneTime);
        }
    }

    /// @dev What was taken down, hidden or removed is not for new jobs, and what was taken down is not paid for.
    function invariant_IM6_endedImagesAreNotUsable() public view {
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            IImageMarketplace.Status s = handler.book(seq).status;
            assertEq(uint8(images.image(seq).status), uint8(s), "only the listed steps");
            bool usable = s == IImageMarketplace.Status.Published || s == IImageMarketplace.Status.Deprecated;
            assertEq(images.usable(seq), usable);
            assertEq(images.isPaying(seq), s != IImageMarketplace.Status.TakenDown);
            (bool ok,) = address(images).staticcall(abi.encodeCall(images.quote, (seq, ALEPH, RATE)));
            assertEq(ok, usable);
        }
    }

    /// @dev The contract holds the bonds and nothing else.
    function invariant_IM7_holdsTheBonds() public view {
        assertEq(token.balanceOf(address(images)), handler.bonds());
        uint256 sum;
        for (uint32 seq = 1; seq <= handler.count(); ++seq) {
            sum += uint256(images.image(seq).bond) * 1 ether;
            assertEq(uint256(images.image(seq).bond) * 1 ether, handler.book(seq).bond);
        }
        assertEq(sum, handler.bonds());
    }
}
